"""Numbers of cards and bank accounts, as RE2; checksums.py decides."""

# Cards, as they are written: groups of one length, or all digits in a row.
CARD = (
    r"\b\d{4} \d{4} \d{4} \d{4}\b",
    r"\b\d{4}-\d{4}-\d{4}-\d{4}\b",
    r"\b3\d{3}[ -]\d{6}[ -]\d{4,5}\b",
    r"\b\d{6} \d{13}\b",
    r"\b\d{4} \d{4} \d{4}\b",
    r"\b\d{12,19}\b",
)
# Looked for before the others: what follows sixteen digits may be the card's last three, or the three of its back.
CARD_19 = r"\b\d{4} \d{4} \d{4} \d{4} \d{3}\b|\b\d{4}-\d{4}-\d{4}-\d{4}-\d{3}\b"
# The digits alone: what issuers' numbers begin with, and how long they are.
CARD_DIGITS = (
    r"4\d{12}(?:\d{3})?(?:\d{3})?|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-59]|[689]\d)\d{11}|35\d{14}(?:\d{3})?"
    r"|(?:2131|1800)\d{11}|220[0-4]\d{12}|8[12]\d{14}"
    r"|(?:50|5[6-9]|6\d)\d{10,17}|0604\d{8,15}"
)

# How long an IBAN is, with its country (the registry of SWIFT, release 99).
_COUNTRIES = {
    15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU XK MN",
    21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
# The longer first: where the digits of one end, no other goes on.
IBAN = tuple(
    rf"\b(?i:{'|'.join(_COUNTRIES[length].split())})\d\d(?:[ -]?[0-9A-Za-z]){{{length - 4}}}\b"
    for length in sorted(_COUNTRIES, reverse=True)
)
# A card of 19 may be a part of an account.
FIRST = "|".join((*IBAN, CARD_19))
