"""What looks like a telephone number or a date and is none, as RE2: found so that no kind takes a part of it.

None of these may begin before a card or an account and hide it: where more digits follow, they do not match.
"""

_CURRENCY = r"USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|PLN|CZK|SEK|NOK|DKK|BRL|RUB|TRY|AUD|CAD"
# Before any kind has its turn.
FIRST = (
    r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b",
    r"\b(?i:v|ver|version|release|build|firmware|rev)[ .:]{0,2}\d+(?:\.\d+)+\b",
    r"\b\d+(?:\.\d+){4,}\b",
    rf"(?:[$€£¥₹₽₩]|\b(?:{_CURRENCY})) ?\d{{1,3}}(?:[.,' ]\d{{3}})*(?:[.,]\d{{1,2}})?\b",
    rf"\b\d{{1,3}}(?:[.,' ]\d{{3}})*(?:[.,]\d{{1,2}})? ?(?:[$€£¥₹₽₩元円원]|zł|(?:{_CURRENCY}|Kč|kr)\b)",
)
# Longer than a machine's address: before dates.
DOTTED = (r"\b\d+(?:\.\d+){3,}\b",)
# Numbers of four and more groups, and those of orders, before those of telephones.
_ORDER = r"(?:#|\b(?i:order|ord|po|rma|inv|invoice|ref|sku|ticket|case|item)[-/#])"
LONG = (
    r"\b\d{2,}(?:-\d+){3,}\b",
    r"\b\d+(?:/\d+){3,}\b",
    rf"{_ORDER}\d{{3}}-\d{{3}}-\d{{4}}\b",
    rf"{_ORDER}\d{{9,11}}\b",
    # Written like an Italian mobile.
    r"\b(?i:order|bestellung|commande|ordine|pedido|ref|invoice|ticket|case)(?i:[ .:]{1,2}(?:no|nr|n°)\.?)?"
    r"[ .:]{1,2}3\d{9}\b",
)
# Of whatever groups are left.
LAST = (r"\b\d+(?:[-./]\d+)+\b",)
