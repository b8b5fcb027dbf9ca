"""Made sentences of 20 locales with one thing each that is to be redacted, and with numbers that are not."""

import random
from typing import NamedTuple

LOCALES = (
    "cs_CZ", "de_AT", "de_CH", "de_DE", "en_AU", "en_CA", "en_GB", "en_US", "es_ES", "fr_FR", "it_IT", "ja_JP",
    "ko_KR", "nl_NL", "pl_PL", "pt_BR", "ru_RU", "sv_SE", "zh_CN", "zh_TW",
)  # fmt: skip
CHECKSUMMED = ("card", "iban", "id_cn")
# Around what is made: without a word that tells, by language; "" is any other.
FRAMES = {
    "zh": ("请记下{}，谢谢。", "我的资料是{}。", "{}", "内容：{}，请查收。"),
    "ja": ("{}をご確認ください。", "こちらです：{}。", "{}", "内容は{}です。"),
    "": ("Please note {} for later.", "Regards, Kim ({})", "{}", "It is {}, as I said.", "a: {}\nb: none"),
}
# With one, for telephones.
CALLS = {
    "cs": "Můj telefon je {}.", "de": "Sie erreichen mich unter Telefon {}.", "en": "Please call me at {}.",
    "es": "Mi teléfono es {}.", "fr": "Mon téléphone est le {}.", "it": "Il mio telefono è {}.",
    "ja": "電話は{}です。", "ko": "전화 {} 입니다.", "nl": "Mijn telefoon is {}.", "pl": "Mój telefon to {}.",
    "pt": "Meu telefone é {}.", "ru": "Мой телефон {}.", "sv": "Min telefon är {}.", "zh": "我的手机是{}。",
}  # fmt: skip
NUMBERS = ("amount", "date", "version", "order number")


class Made(NamedTuple):
    """One sentence."""

    locale: str
    kind: str
    """Of redaction.kinds.KINDS, or of NUMBERS."""
    text: str
    made: str
    """What it holds of the kind."""


def made_personal(each: int, seed: int = 0) -> list[Made]:
    """For each locale and kind as many sentences; the seed decides all of them."""
    from faker import Faker

    found, chance = [], random.Random(seed)
    for locale in LOCALES:
        fake = Faker(locale)
        fake.seed_instance(f"{seed} {locale}")
        makers = {
            "email": fake.email,
            "url": fake.url,
            "phone": fake.phone_number,
            "card": lambda fake=fake: _grouped(fake.credit_card_number(), chance, (16,)),
            "iban": lambda fake=fake: _grouped(_iban(fake), chance, range(99)),
            "ip": lambda fake=fake: chance.choice((fake.ipv4, fake.ipv6))(),
            "date": lambda fake=fake: fake.date_object().strftime(chance.choice(_DATES)),
        }
        if locale == "zh_CN":
            makers["id_cn"] = fake.ssn
        if locale == "en_US":
            makers["id_us"] = fake.ssn
        for kind, make in makers.items():
            # These two are of one locale: as many as the others have together.
            for number in range(each * (len(LOCALES) if kind in ("id_cn", "id_us") else 1)):
                made = make()
                found.append(Made(locale, kind, _frame(locale, kind, number, chance).format(made), made))
    return found


def made_numbers(each: int, seed: int = 0) -> list[Made]:
    """For each of NUMBERS so many sentences that none of its kinds is in; of dates, none but the kind date."""
    chance, found = random.Random(seed), []
    makers = {"amount": _amount, "date": _date, "version": _version, "order number": _order}
    frames = {
        "amount": ("The total is {}.", "Paid {} today.", "{}", "Der Betrag von {} ist offen."),
        "date": ("Delivered on {}.", "{}", "Due {}, at the latest", "Stand: {}"),
        "version": ("Fails since version {}.", "Update to v{} now.", "Release {} is out.", "python=={}"),
        "order number": ("Order {} has not come.", "Where is {}?", "Ref. {}, please reply", "Bestellung {}"),
    }
    for kind in NUMBERS:
        for _ in range(each):
            made = makers[kind](chance)
            found.append(Made("", kind, chance.choice(frames[kind]).format(made), made))
    return found


_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%y", "%B %d, %Y", "%d %b %Y", "%Y年%m月%d日", "%Y/%m/%d")


def _frame(locale: str, kind: str, number: int, chance: random.Random) -> str:
    language = locale[:2]
    # Every second telephone number has a word before it.
    if kind == "phone" and number % 2:
        return CALLS[language]
    return chance.choice(FRAMES.get(language, FRAMES[""]))


def _iban(fake) -> str:
    """faker's, whose British ones of some locales have a digit too few."""
    country, account = fake.bank_country(), fake.bban()
    account = account.ljust(18, "0") if country == "GB" else account
    digits = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    return f"{country}{98 - int(digits) % 97:02}{account}"


def _grouped(number: str, chance: random.Random, lengths) -> str:
    """As it is, or in groups of four."""
    if len(number) in lengths and chance.random() < 0.5:
        return " ".join(number[start : start + 4] for start in range(0, len(number), 4))
    return number


def _amount(chance: random.Random) -> str:
    value = round(10 ** chance.uniform(0, 8), 2)
    return chance.choice(
        (
            f"${value:,.2f}", f"{value:.2f} EUR", f"€ {value:,.0f}", f"{value:,.2f}", f"{int(value)}", f"{value:.2f}",
            f"{value:,.2f}".translate(str.maketrans(",.", ".,")) + " €", f"{int(value):,} USD".replace(",", " "),
            f"¥{int(value)}", f"{int(value)}元", f"{value:,.2f}".replace(",", "'") + " CHF",
        )
    )  # fmt: skip


def _date(chance: random.Random) -> str:
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1950, 2030)
    hour, minute = chance.randint(0, 23), chance.randint(0, 59)
    return chance.choice(
        (
            f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year}",
            f"{day:02}.{month:02}.{year} {hour:02}:{minute:02}", f"{year}年{month}月{day}日",
            f"{day:02}-{month:02}-{year} {hour:02}:{minute:02}", f"{year}{month:02}{day:02}",
            f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z", f"{year}-{year + 3}", f"{month:02}/{year}",
        )
    )  # fmt: skip


def _version(chance: random.Random) -> str:
    parts = [chance.randint(0, limit) for limit in (30, 20, 400, 9000)]
    kept = parts[: chance.choice((2, 3, 3, 4))]
    return ".".join(map(str, kept)) + chance.choice(("", "", "", "-rc1", "b2"))


def _order(chance: random.Random) -> str:
    def digits(count: int) -> str:
        return str(chance.randint(10 ** (count - 1), 10**count - 1))

    year = chance.randint(2015, 2026)
    return chance.choice(
        (
            f"{digits(3)}-{digits(7)}-{digits(7)}", f"#{digits(5)}", f"#{digits(8)}", digits(8), digits(9), digits(10),
            f"ORD-{year}-{digits(6)}", f"{year}/{digits(5)}", f"PO{digits(7)}", f"A-{digits(6)}-{digits(3)}",
            f"{digits(4)}-{digits(4)}-{digits(4)}", f"RE-{year}{digits(4)}", f"INV{digits(10)}", f"45{digits(8)}",
            digits(12),
        )
    )  # fmt: skip


def found_in(redactor, texts: list[str]) -> list[list[tuple[str, str]]]:
    """For each text the kinds that a Redactor finds in it, with what it takes for them."""
    found: list[list[tuple[str, str]]] = [[] for _ in texts]
    for row, kind, text in zip(*(values.numpy().tolist() for values in redactor.found(texts)), strict=True):
        found[row].append((redactor.redaction.names[kind], text.decode()))
    return found


def recall(redactor, made: list[Made]) -> dict[tuple[str, str], tuple[int, int]]:
    """By kind and locale how many were found whole and as their kind, and how many there are."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for one, found in zip(made, found_in(redactor, [one.text for one in made]), strict=True):
        right, total = counts.get((one.kind, one.locale), (0, 0))
        hit = any(kind == one.kind and one.made in text for kind, text in found)
        counts[one.kind, one.locale] = right + hit, total + 1
    return counts


def false_of_kind(redactor, made: list[Made]) -> dict[str, int]:
    """By kind how many findings in sentences of made_personal are of another kind, or take more than there is."""
    counts: dict[str, int] = {}
    for one, found in zip(made, found_in(redactor, [one.text for one in made]), strict=True):
        for kind, text in found:
            if (kind, text) != (one.kind, one.made):
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def false_share(redactor, made: list[Made]) -> dict[str, float]:
    """By kind of NUMBERS the share of the sentences in which anything is found; dates in dates are right."""
    wrong = dict.fromkeys(NUMBERS, 0)
    for one, found in zip(made, found_in(redactor, [one.text for one in made]), strict=True):
        wrong[one.kind] += any((kind, one.kind) != ("date", "date") for kind, _ in found)
    return {kind: count / sum(one.kind == kind for one in made) for kind, count in wrong.items()}


def share(counts: dict[tuple[str, str], tuple[int, int]], kind: str, locale: str | None = None) -> float:
    """Of what `recall` gives, of one kind, of all locales together or of one."""
    chosen = [pair for (a, b), pair in counts.items() if a == kind and locale in (None, b)]
    return sum(right for right, _ in chosen) / sum(total for _, total in chosen)
