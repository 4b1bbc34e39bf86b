"""Logging in and out, changing a password, and giving somebody an account."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from email_validator import EmailNotValidError, validate_email
from sqlalchemy.exc import IntegrityError

from app import passwords
from app.db import Database
from app.errors import Conflict, Fault, Invalid, NotFound
from app.models import user
from app.models.user import Credentials, Organisation, Person, User

LIFETIME = timedelta(days=14)


def log_in(db: Database, email: str, password: str) -> str | None:
    """A new login's token; None when address and password do not belong together. Hashes outside of any transaction."""
    email, credentials = normalise(email), None
    if email.isprintable():  # nobody's address is not; PostgreSQL takes no text with a NUL in it
        with db.begin() as conn:
            credentials = user.find_credentials(conn, email)
    if not passwords.verify_password(credentials.password_hash if credentials else None, password):
        return None
    assert credentials is not None
    return _open(db, _renewed(db, credentials, password))


def who(db: Database, token: str) -> Person | None:
    """Whose login a token opens, if it is still open."""
    with db.begin() as conn:
        return user.find_person(conn, _hash(token))


def log_out(db: Database, token: str) -> None:
    """Ends the login: its token opens nothing from now on."""
    with db.begin() as conn:
        user.delete_login(conn, _hash(token))


def change_password(db: Database, user_id: int, current: str, new: str) -> str:
    """Changes a password, ends every login of the user, and returns the token of a new one.

    Raises Invalid for "current" or "new", Conflict when the password was changed at the same moment.
    """
    passwords.check_password(new, pointer="new")
    with db.session() as session:
        credentials = user.load_credentials(session, user_id)
    if not passwords.verify_password(credentials.password_hash, current):
        raise Invalid.one("current", "That is not your password.")
    new_hash = passwords.hash_password(new)
    with db.begin() as conn:
        if not user.update_password(conn, credentials, new_hash):
            raise Conflict("The password was changed from somewhere else just now.")
        user.delete_logins_of(conn, user_id)
    token = _open(db, Credentials(user_id, new_hash))
    if token is None:
        raise NotFound("There is no such user.")
    return token


def create_user(
    db: Database, *, email: str, name: str, password: str, role: str = "marketer", organisation_id: int | None = None
) -> User:
    """Gives somebody an account; the organisation may be left out while there is one at most (the first is made).

    Raises Invalid naming "email", "name", "password", "role" or "organisation"; Conflict when the address is taken.
    """
    email = normalise(email)
    _check(email, name, password, role)
    password_hash = passwords.hash_password(password)
    try:
        with db.session() as session:
            organisation = _organisation(user.list_organisations(session), organisation_id)
            session.add(organisation)
            session.flush()
            person = User(
                organisation_id=organisation.id,
                email=email,
                name=name.strip(),
                password_hash=password_hash,
                role=role,
            )
            session.add(person)
    except IntegrityError as error:
        raise Conflict(f"{email} has an account already.") from error
    return person


def normalise(email: str) -> str:
    """An address as accounts keep it."""
    return email.strip().lower()


def _check(email: str, name: str, password: str, role: str) -> None:
    faults = []
    try:
        validate_email(email, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        faults.append(Fault("email", str(error)))
    if not name.strip():
        faults.append(Fault("name", "Please give a name."))
    if role not in user.ROLES:
        faults.append(Fault("role", f"A role is one of: {', '.join(user.ROLES)}."))
    if faults:
        raise Invalid(faults)
    passwords.check_password(password)


def _organisation(present: list[Organisation], wanted: int | None) -> Organisation:
    if wanted is None and len(present) <= 1:
        return present[0] if present else Organisation(name="Millrace")
    for organisation in present:
        if organisation.id == wanted:
            return organisation
    known = ", ".join(f"{organisation.id} {organisation.name}" for organisation in present)
    raise Invalid.one("organisation", f"Please name one of: {known}.")


def _open(db: Database, credentials: Credentials) -> str | None:
    token = secrets.token_urlsafe(32)
    with db.begin() as conn:
        user.delete_expired_logins(conn)
        opened = user.insert_login(conn, credentials, _hash(token), LIFETIME)
    return token if opened else None


def _renewed(db: Database, credentials: Credentials, password: str) -> Credentials:
    """The same credentials, hashed anew where the parameters have become stronger since."""
    if not passwords.is_outdated(credentials.password_hash):
        return credentials
    new_hash = passwords.hash_password(password)
    with db.begin() as conn:
        changed = user.update_password(conn, credentials, new_hash)
    return Credentials(credentials.user_id, new_hash) if changed else credentials


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
