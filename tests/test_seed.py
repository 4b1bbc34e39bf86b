"""PROVIDER_URL and PROVIDER_SENDER: what a platform's variables say stands in the database, once and up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner

from app.config import Settings, read
from app.errors import ConfigError
from app.flows import first_steps, pools, seed
from app.models import sender
from app.models.pool import Pool
from app.providers.address import is_confined
from app.runtime import Runtime
from cli.main import main
from tests.peers import Peer, running_sink

URL = "smtp://user:secret@smtp.example.com:587"


@pytest.fixture
def sink() -> Iterator[Peer]:
    with running_sink() as peer:
        yield peer


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
    }


def seeded(runtime: Runtime, url: str, sender: str | None = None) -> str | None:
    runtime.settings = replace(runtime.settings, provider_url=url, provider_sender=sender)
    return seed.seed_provider(runtime)


def kept(runtime: Runtime) -> dict[str, str]:
    with runtime.db.session() as session:
        return {pool.name: runtime.vault.decrypt(pool.url) for pool in session.query(Pool)}


def test_nothing_is_made_before_there_is_somebody_to_own_it(runtime: Runtime) -> None:
    assert seeded(runtime, URL) is None
    assert kept(runtime) == {}


def test_the_environments_pool_is_made_once_and_follows_the_variable(runtime: Runtime) -> None:
    first_steps.ensure_first_user(runtime)
    said = [seeded(runtime, url, "Old Mill <Hello@Example.com>") for url in (URL, URL, URL.replace("587", "2525"))]
    assert all(line is not None and "secret" not in line for line in said)
    assert kept(runtime) == {seed.POOL: URL.replace("587", "2525")}
    assert not is_confined(kept(runtime)[seed.POOL]), "it is the operator's"
    with runtime.db.begin() as conn:
        [line] = sender.list_senders(conn, 1)
    assert (line.name, line.address, line.pool) == ("Old Mill", "hello@example.com", seed.POOL)


def test_a_pool_that_has_the_url_already_is_not_made_twice(runtime: Runtime) -> None:
    first_steps.ensure_first_user(runtime)
    pools.add_pool(runtime, 1, "Demo sink", "sink+http://127.0.0.1:9025")
    assert seeded(runtime, "sink+http://127.0.0.1:9025") is None
    assert list(kept(runtime)) == ["Demo sink"]


@pytest.mark.parametrize(("url", "written"), [("ftp://secret@x", None), (URL, "nobody"), (URL, "a@b@c <x>")])
def test_variables_that_make_no_sense_are_named_and_never_repeated(
    runtime: Runtime, url: str, written: str | None
) -> None:
    first_steps.ensure_first_user(runtime)
    with pytest.raises(ConfigError, match=r"^PROVIDER_") as caught:
        seeded(runtime, url, written)
    assert "secret" not in str(caught.value)


def test_hosts_that_users_may_name_inside_are_read_from_the_environment(environment: dict[str, str]) -> None:
    def allowed(written: str) -> frozenset[str]:
        return read({**environment, "MILLRACE_PRIVATE_PROVIDERS": written}).private_providers

    assert allowed("") == allowed("0") == frozenset()
    assert allowed("1") == allowed("a, *") == frozenset("*")
    assert allowed(" Gateway.internal, 10.0.0.7 ,") == {"gateway.internal", "10.0.0.7"}


def test_the_first_user_and_every_release_bring_the_pool(environment: dict[str, str], runtime: Runtime) -> None:
    known = {**environment, "PROVIDER_URL": URL}
    told = CliRunner().invoke(main, ["user", "create", "a@example.com", "--generate"], env=known)
    assert told.exit_code == 0 and seed.POOL in told.output and "secret" not in told.output
    known["PROVIDER_URL"] = "smtp://user:other@smtp.example.com:587"
    assert CliRunner().invoke(main, ["migrate"], env=known).exit_code == 0
    assert kept(runtime) == {seed.POOL: known["PROVIDER_URL"]}


def test_an_operator_adds_a_pool_anywhere_lists_and_checks_it(
    environment: dict[str, str], runtime: Runtime, sink: Peer
) -> None:
    def run(*arguments: str, typed: str = "") -> tuple[int, str]:
        told = CliRunner().invoke(main, ["pools", *arguments], input=typed, env=environment)
        return told.exit_code, told.output

    assert "There is no user yet" in run("list")[1]
    first_steps.ensure_first_user(runtime)
    code, told = run("add", "Inside", "--json", typed=f"{sink.url}?batch=9\n")
    assert code == 0
    pool_id = json.loads(told)["id"]
    assert run("check", str(pool_id)) == (
        0,
        "The sink answers. It has taken 0 emails, and delivered none, as always.\n",
    )
    [line] = json.loads(run("list", "--json")[1])
    assert (line["name"], line["state"], line["check"]["good"]) == ("Inside", "sends", True)
    code, told = run("add", "Bad", typed="smtp://user:secret@\n")
    assert code == 1 and "secret" not in told
    runtime.settings = replace(runtime.settings, provider_url=None)
    refused = pools.add_pool(runtime, 1, "Away", "sink+http://127.0.0.1:1")
    assert run("check", str(refused))[0] == 1
