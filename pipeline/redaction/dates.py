"""Days, as RE2: in numbers, and with the names of months in nine languages."""

_MONTHS = (
    "jan(?:uary|uar|vier|uari)?|jänner|enero|gennaio|janeiro|feb(?:ruary|ruar|ruari|brero|braio)?|février|fevereiro"
    "|mar(?:ch|s|zo|ço|et)?|märz|maart|mrz|apr(?:il|ile)?|avril|abril|may|mai|mei|mayo|maggio|maio|june?|juni|juin"
    "|junio|giugno|junho|july?|juli|juillet|julio|luglio|julho|aug(?:ust|ustus)?|août|agosto|sept?(?:ember|embre"
    "|tembre|iembre)?|settembre|setembro|o[ck]t(?:ober|obre|ubre)?|ottobre|outubro|nov(?:ember|embre|iembre|embro)?|de[cz]"
    "(?:ember)?|décembre|diciembre|dicembre|dezembro|styczeń|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca"
    "|sierpnia|września|października|listopada|grudnia"
)
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:1[6-9]|20)\d\d"
_TIME = r"(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
_ORDINAL = r"(?:st|nd|rd|th|er|º|\.)?"


def _numbers(mark: str, year: str) -> str:
    return rf"\b(?:{_DAY}{mark}{_MONTH}|{_MONTH}{mark}{_DAY}){mark}{year}\b"


DATE = (
    *(rf"\b{_YEAR}{mark}{_MONTH}{mark}{_DAY}{_TIME}\b" for mark in ("-", "/", r"\.")),
    *(_numbers(mark, rf"(?:{_YEAR}|\d\d)") for mark in ("-", "/")),
    # Versions are written so too, but seldom in pairs of digits.
    _numbers(r"\. ?", _YEAR),
    r"\b(?:0[1-9]|[12]\d|3[01])\.(?:0[1-9]|1[0-2])\.\d\d\b",
    rf"\b(?i:{_MONTHS})\.? {_DAY}{_ORDINAL},? {_YEAR}\b",
    rf"\b{_DAY}{_ORDINAL}[ -](?:de |of )?(?i:{_MONTHS})\.?,?[ -](?:de |of )?{_YEAR}\b",
    rf"\b{_YEAR} ?[年년] ?{_MONTH} ?[月월] ?{_DAY} ?[日일号]",
)
