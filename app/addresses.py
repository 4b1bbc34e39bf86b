"""Email addresses: what is one, and the one form that it is kept in."""

from __future__ import annotations

import re

from email_validator import EmailNotValidError, validate_email

from app.errors import Invalid

LONGEST = 254  # RFC 5321 §4.5.3.1.3, with erratum 1690 to RFC 3696

_ATEXT = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]"  # RFC 5322 §3.2.3
_LABEL = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_RESERVED = r"(?:arpa|invalid|local|localhost|onion|test)\Z"  # email_validator.SPECIAL_USE_DOMAIN_NAMES, all top level
# Most addresses, in 0.5 µs instead of 40. All that it accepts email-validator accepts too (a test searches for
# exceptions); what it does not accept email-validator decides. No "--", so no punycode; group 1 is the domain.
# Not possessive (++), though nothing here can match in two ways: Python 3.11.2, which is Debian 12's, gets those wrong.
_PLAIN = re.compile(
    rf"(?=[^@]{{1,64}}@[^@]{{4,63}}\Z){_ATEXT}+(?:\.{_ATEXT}+)*@((?:{_LABEL}\.)+(?!{_RESERVED})[a-z]{{2,}})\Z"
)
match_plain = _PLAIN.match


def read_address(raw: str) -> tuple[str, str]:
    """The address trimmed, in small letters, its domain as IDNA ASCII; and that domain. Nothing is looked up.

    Raises Invalid (pointer "email") with a sentence about what is wrong. Addresses that need SMTPUTF8 (letters beyond
    ASCII before the @) are refused: few providers carry them.
    """
    email = raw.strip()
    # Not before it is known to be ASCII: the Kelvin sign, too, has a small letter "k".
    plain = match_plain(email.lower()) if email.isascii() else None
    return (plain[0], plain[1]) if plain else _read_unusual(email)


def _read_unusual(email: str) -> tuple[str, str]:
    if not email:
        raise Invalid.one("email", "There is no email address.")
    if len(email) > LONGEST:
        raise Invalid.one("email", f"The email address is longer than {LONGEST} characters.")
    try:
        found = validate_email(email, allow_smtputf8=False, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise Invalid.one("email", str(error)) from None
    domain = found.ascii_domain.lower()
    return f"{found.local_part.lower()}@{domain}", domain
