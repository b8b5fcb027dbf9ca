"""Numbers that states give to persons, as RE2; checksums.py decides where there is one."""

_DAY = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
# 居民身份证, of 18 places.
ID_CN = rf"\b[1-9]\d{{5}}(?:18|19|20)\d\d{_DAY}\d{{3}}[\dXx]\b"
# Social security numbers, and the taxpayers' numbers that are written like them.
ID_US = r"\b\d{3}-\d\d-\d{4}\b", r"\b\d{3} \d\d \d{4}\b"
ID_US_DIGITS = (
    r"(?:00[1-9]|0[1-9]\d|[1-57-8]\d\d|6[0-57-9]\d|66[0-57-9])(?:0[1-9]|[1-9]\d)(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})"
    r"|9\d\d(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])\d{4}"
)
# Without its hyphens it is nine digits like others: what stands before it tells.
ID_US_CONTEXT = (r"\b(?i:ssn|itin|tin|social security)[^\d\n\[]{0,20}", r"\d{9}\b")
