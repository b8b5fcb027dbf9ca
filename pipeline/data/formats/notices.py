"""What a reader met that is no error but that the user should know, counted."""


class Notices(dict):
    """{what: [count, place of the first]}; JSON-able."""

    def add(self, what: str, place: str) -> None:
        """Count one more."""
        self.setdefault(what, [0, place])[0] += 1

    def sentences(self) -> list[str]:
        """One for each kind: what, how many, and where the first is."""
        return [f"{what}: {count}, the first at {place}." for what, (count, place) in self.items()]
