"""Telephone numbers, as RE2: in international form, and as they are written in the countries that are named here.

National forms: Austria, Brazil, Canada, China, Czechia, Finland, France, Germany, Japan, the Netherlands, Poland,
Russia, South Korea, Spain, Sweden, Switzerland, Taiwan, Turkey, the United Kingdom, the United States; of Australia,
India, Italy and Portugal those that begin with 0 or stand in groups. Digits in a row that could be any number are one
where a word before them says so. Two groups of four by themselves are none: they would be standards and articles too.
"""

_EXTENSION = r"(?:,? ?(?i:x|ext\.?|extension|#) ?\d{1,5})?"
_GAP = r"[ .\-/]{0,2}"
# With a 0 and a last group behind those that a card, or a number of North America, would end with: before cards.
FOURS = (r"\b0(?:\d{3} \d{4}|\d\d \d{3}) \d{4} (?:\d\d|[1-9]\d\d)\b",)
# France: five pairs. Before dates, which begin like them.
PAIRS = r"\b0\d(?: \d\d){4}\b", r"\b0\d(?:\.\d\d){4}\b", r"\b0\d(?:-\d\d){4}\b"
INTERNATIONAL = (
    # Enough digits in the first groups, and no last one of a single digit, which may be of what follows.
    rf"(?:\(\+[1-9]\d{{0,2}}\)|(?:\+ ?|\b00 ?)[1-9]\d{{0,2}})(?:{_GAP}\(0\))?(?:{_GAP}\(?\d{{1,5}}\)?){{0,2}}"
    rf"(?:{_GAP}\(?\d{{2,8}}\)?){{0,4}}{_GAP}\d{{2,8}}{_EXTENSION}\b",
    r"\([1-9]\d{1,2}\) ?\d{8,10}\b",
    r"\([1-9]\d{1,2}\) \d{3} \d{3} \d{3}\b",
)
NATIONAL = (
    # North America, with and without the 1.
    rf"(?:\b1[ .-]?)?\(\d{{3}}\)[ .-]?\d{{3}}[ .-]?\d{{4}}{_EXTENSION}\b",
    rf"(?:\b1[ .-])?\b\d{{3}}-\d{{3}}-\d{{4}}{_EXTENSION}\b",
    rf"(?:\b1[ .-])?\b\d{{3}}\.\d{{3}}\.\d{{4}}{_EXTENSION}\b",
    rf"(?:\b1[ .-])?\b\d{{3}} \d{{3}}[ -]\d{{4}}{_EXTENSION}\b",
    # China: mobiles.
    r"\b1[3-9]\d{9}\b", r"\b1[3-9]\d[ -]\d{4}[ -]\d{4}\b",
    # A 0, the area, the rest.
    r"\(0\d{1,5}\)[ /.-]{0,2}\d{2,8}(?:[ .-]\d{2,8}){0,3}\b",
    r"\b0\d{1,5} ?/ ?\d{2,8}(?:[ -]\d{2,8}){0,3}\b",
    r"\b0\d{1,5}(?:[ -]\d{2,8}){1,4}\b", r"\b0\d{1,3}\.\d{3,4}\.\d{3,4}\b",
    r"\b0[1-9]\d{8,9}\b",
    # Russia; Brazil; Japan; Poland, Portugal, Spain, Czechia.
    r"\b8[ -]?\(?\d{3}\)?[ -]\d{3}[ -]\d\d[ -]?\d\d\b",
    r"(?:\(\d\d\) ?|\b\d\d )9?\d{4}-\d{4}\b",
    r"\b[1-9]\d-\d{4}-\d{4}\b",
    # Italy: mobiles, by their prefixes.
    r"\b3(?:[2-4]\d|5[0-35]|6[0368]|7\d|8[0389]|9[0-37])\d{7}\b",
    r"\b[2-9]\d\d \d{3} \d{3}\b", r"\b[1-9]\d \d{3} \d\d \d\d\b", r"\b[6-9]\d\d \d\d \d\d \d\d\b",
)  # fmt: skip
PHONE = (*INTERNATIONAL, *PAIRS, *NATIONAL)
PHONE_DIGITS = r"\d{8,20}(?:(?:X|EXT|EXTENSION)\d{1,5})?"
# A word before digits that could be any number, and how these may then be written.
_WORDS = (
    "tel|telephone|phone|mobile|mobil|cell|cellphone|fax|call|calling|whatsapp|sms|text|dial|ring|reach|handy"
    "|telefon|telefonnummer|telefono|teléfono|téléphone|telefone|celular|cellulare|móvil|portable|numéro"
    "|puhelin|puh|telefonu|тел|телефон|телефону"
)
PHONE_CONTEXT = (
    rf"(?:(?:^|[^\pL\pN\[])(?i:{_WORDS})[^\pL\d\n+\[]|电话|手机|電話|手機|携帯|전화|휴대폰)[^\d\n+\[]{{0,20}}",
    r"\d(?:[ .\-/]?\d){6,12}(?:[.\-/]\d+)*\b",
)
