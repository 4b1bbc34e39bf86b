"""Leads that nobody is: for the demo, the benchmarks and the tests. Their domains belong to no one (RFC 2606 §3)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import accumulate

COLUMNS = ("email", "first_name", "last_name", "country", "city", "time_zone", "plan", "age", "signed_up")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLACES = (
    ("DE", "Europe/Berlin", ("Berlin", "Hamburg", "Köln", "Leipzig", "München", "Freiburg im Breisgau")),
    ("US", "America/New_York", ("New York", "Boston", "Atlanta", "Philadelphia")),
    ("US", "America/Los_Angeles", ("San Francisco", "Seattle", "Portland")),
    ("GB", "Europe/London", ("London", "Leeds", "Edinburgh", "Stratford-upon-Avon")),
    ("FR", "Europe/Paris", ("Paris", "Lyon", "Saint-Étienne", "L'Haÿ-les-Roses")),
    ("ES", "Europe/Madrid", ("Madrid", "València", "A Coruña")),
    ("PL", "Europe/Warsaw", ("Warszawa", "Łódź", "Kraków")),
    ("BR", "America/Sao_Paulo", ("São Paulo", "Belo Horizonte", "Curitiba")),
    ("IN", "Asia/Kolkata", ("Mumbai", "Pune", "Bengaluru")),
    ("JP", "Asia/Tokyo", ("Tokyo", "Osaka", "Sapporo")),
    ("AU", "Australia/Sydney", ("Sydney", "Wollongong")),
)
FIRST_NAMES = _words(
    "Anna Ben Carla David Emma Felix Greta Hannah Ivan José Klara Liam Mia Noah Olga Paul Quinn Rosa Søren Tomasz Uma"
    " Víctor Wei Ximena Yuki Zoë Aisha Björn Chloé Daniel Elif François Grace Hiro Inês Jack"
)
LAST_NAMES = _words(
    "Müller Smith García Kowalski Dubois Silva Tanaka Patel Jones Schmidt Martin Nowak Rossi Weber Brown O'Brien Sato"
    " Ferreira Nguyen Lefèvre Fischer Taylor Łukasik Moreau Costa Ito Sharma Wilson Becker van-Dijk"
)
# A few domains receive most mail, as everywhere.
DOMAINS = ("post", "mail", "inbox", "web", "home", "mx", "letters", "office", "studio", "garden", "works", "campus")
ENDINGS = ("example.com", "example.net", "example.org")
PLANS, PLAN_WEIGHTS = ("free", "basic", "pro", "business"), (60, 25, 12, 3)
YEARS = 8  # how long ago the first of them signed up
NAMELESS = 0.06  # the share that never gave a first name
LATIN = str.maketrans("éèëêüöäøßáíóúñçãłŁşÉ'- ", "eeeeuoaosaiouncallse...")


def generate_rows(leads: int, *, seed: int = 1, today: date | None = None) -> Iterator[list[str]]:
    """Rows under COLUMNS, every address once; the same for the same `leads`, `seed` and `today`."""
    dice = random.Random(seed)
    last_day = today or date.today()
    receivers = [f"{name}.{ending}" for name in DOMAINS for ending in ENDINGS]
    weights = list(accumulate(1000 // (rank + 1) for rank in range(len(receivers))))
    for number in range(leads):
        first, last = dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES)
        country, time_zone, cities = dice.choice(PLACES)
        local = f"{first}.{last}".lower().translate(LATIN)
        receiver = dice.choices(receivers, cum_weights=weights)[0]
        signed_up = last_day - timedelta(days=int(YEARS * 365 * dice.random() ** 2))  # more of them lately
        yield [
            f"{local}.{number}@{receiver}",
            "" if dice.random() < NAMELESS else first,
            last,
            country,
            dice.choice(cities),
            time_zone,
            dice.choices(PLANS, PLAN_WEIGHTS)[0],
            str(min(95, max(16, round(dice.gauss(41, 14))))),
            signed_up.isoformat(),
        ]
