"""People who log in, the organisations they belong to, and their open logins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, FetchedValue, ForeignKey, LargeBinary, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements
from app.errors import NotFound

SQL = Statements("user")
ROLES = ("marketer", "admin")


class Organisation(Base):
    """Whose leads and campaigns they are: nothing crosses its border."""

    __tablename__ = "organisation"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


class User(Base):
    """A person who logs in with an address and a password."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int] = mapped_column(ForeignKey("organisation.id"))
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(default="marketer")
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    disabled_at: Mapped[datetime | None]


class Login(Base):
    """An open session: deleting the row ends it."""

    __tablename__ = "login"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    expires_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Person:
    """Who is asking: what the doors need to know of a user."""

    id: int
    organisation_id: int
    organisation: str
    email: str
    name: str
    role: str

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is verified against."""

    user_id: int
    password_hash: str


def find_credentials(conn: Connection, email: str) -> Credentials | None:
    """The credentials behind an address (lowercased), unless nobody has it or the user was disabled."""
    row = conn.execute(SQL.find_credentials, {"email": email}).one_or_none()
    return None if row is None else Credentials(row.id, row.password_hash)


def load_credentials(session: Session, user_id: int) -> Credentials:
    """The credentials of a user; raises NotFound when there is none such."""
    user = session.get(User, user_id)
    if user is None or user.disabled_at is not None:
        raise NotFound("There is no such user.")
    return Credentials(user.id, user.password_hash)


def insert_login(conn: Connection, credentials: Credentials, token_hash: bytes, lifetime: timedelta) -> bool:
    """Opens a login; False when the user was disabled or the password changed since it was verified."""
    values = {
        "token_hash": token_hash,
        "lifetime": lifetime,
        "user_id": credentials.user_id,
        "password_hash": credentials.password_hash,
    }
    return conn.execute(SQL.insert_login, values).rowcount == 1


def find_person(conn: Connection, token_hash: bytes) -> Person | None:
    """Whose login this is; None when it ended, ran out, or never was."""
    row = conn.execute(SQL.find_person, {"token_hash": token_hash}).one_or_none()
    return None if row is None else Person(**row._mapping)


def delete_login(conn: Connection, token_hash: bytes) -> None:
    """Ends one login."""
    conn.execute(SQL.delete_login, {"token_hash": token_hash})


def delete_logins_of(conn: Connection, user_id: int) -> None:
    """Ends a user's logins everywhere."""
    conn.execute(SQL.delete_logins_of, {"user_id": user_id})


def delete_expired_logins(conn: Connection) -> int:
    """Forgets logins that ran out; returns how many."""
    return conn.execute(SQL.delete_expired_logins).rowcount


def update_password(conn: Connection, credentials: Credentials, new_hash: str) -> bool:
    """Puts a new hash in the place of the one that was verified; False when it was changed meanwhile."""
    values = {"user_id": credentials.user_id, "password_hash": credentials.password_hash, "new_hash": new_hash}
    return conn.execute(SQL.update_password, values).rowcount == 1


def list_organisations(session: Session) -> list[Organisation]:
    """Every organisation, oldest first."""
    return list(session.scalars(select(Organisation).order_by(Organisation.id)))


def find_names(conn: Connection, organisation_id: int) -> list[tuple[int, str]]:
    """(id, name) of an organisation's people, those who left among them: their emails are still in the reports."""
    return [(row.id, row.name) for row in conn.execute(SQL.find_names, {"organisation_id": organisation_id})]


def oldest(session: Session) -> User | None:
    """The first user that was ever made and may still log in."""
    return session.scalars(select(User).where(User.disabled_at.is_(None)).order_by(User.id)).first()


def find_owner(session: Session, organisation_id: int, email: str | None) -> int | None:
    """The user of an organisation with that address, or (None) its first admin; None where there is none such."""
    known = select(User.id).where(User.organisation_id == organisation_id, User.disabled_at.is_(None))
    wanted = User.role == "admin" if email is None else User.email == email.strip().lower()
    return session.scalars(known.where(wanted).order_by(User.id)).first()
