"""Keys derived from SECRET_KEY: short signed tokens for unsubscribe links, and encryption of what must not be read."""

from __future__ import annotations

import hmac
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from hashlib import blake2b

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import ConfigError
from app.message_ids import is_message

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_MAC = 12  # bytes: forging one takes 2**96 tries against the server
_BODY = 12  # bytes: the key's number, 7 of the lead, 4 of the campaign; or 58 bits of a message, 30 of its stream
_MESSAGE_BITS, _STREAM_BITS = 58, 30
_TRACKING_MAC = 9  # bytes: forging one takes 2**72 tries, and would count one click that nobody made
_TRACKING = 28  # characters
_RETURN = re.compile(rb"(?<![0-9A-Za-z])[0-9A-Fa-f]{40}(?![0-9A-Za-z])")
_RETURN_BODY = 12  # bytes: 6 of the hand-off, 6 of the lead
_RETURN_MAC = 8  # bytes: an address has 64 characters before its @ (RFC 5321 §4.5.3.1.1)


class Signer:
    """Signs what travels in links. Tokens signed with one of the `previous` secret keys are still read."""

    def __init__(self, secret_key: str, *previous: str) -> None:
        keys = [_derive(secret, b"unsubscribe", 33) for secret in (secret_key, *previous)]
        self._keys = [(key[0], key[1:]) for key in keys]  # the first byte is the key's number
        self.unsubscribe_token = self.unsubscribe_signer()

    def unsubscribe_signer(self) -> Callable[[int, int], str]:
        """(lead, campaign) -> its token: 32 characters from A-Z a-z 0-9 - _, so that a link needs no quoting.

        A closure, since it runs once an email: looking the key up on `self` costs a tenth of the whole.
        """
        number, key = self._keys[0]
        first, encode, keyed = number << 88, b2a_base64, blake2b(digest_size=_MAC, key=key)

        def unsubscribe_token(lead_id: int, campaign_id: int) -> str:
            body = (first | lead_id << 32 | campaign_id).to_bytes(_BODY, "big")
            mac = keyed.copy()  # the key was taken in once: a third faster
            mac.update(body)
            return encode(body + mac.digest(), newline=False).translate(_TO_URL).decode("ascii")

        return unsubscribe_token

    def message_token(self, message_id: int, campaign_id: int) -> str:
        """The unsubscribe token of a message and its stream, of the same shape as a lead's."""
        number, key = self._keys[0]
        body = (number << 88 | _of_message(message_id, campaign_id)).to_bytes(_BODY, "big")
        signed = body + blake2b(body, digest_size=_MAC, key=key).digest()
        return b2a_base64(signed, newline=False).translate(_TO_URL).decode("ascii")

    def read_unsubscribe(self, token: str) -> tuple[int, int] | None:
        """(lead or message, campaign) of a token; None for one that we never signed, in the same time for every one."""
        if not _TOKEN.fullmatch(token):
            return None
        signed = a2b_base64(token.encode("ascii").translate(_FROM_URL))
        body, claimed = signed[:_BODY], signed[_BODY:]
        for number, key in self._keys:
            mac = blake2b(body, digest_size=_MAC, key=key).digest()
            if hmac.compare_digest(mac, claimed) and number == body[0]:
                return _named(body)
        return None


def _of_message(message_id: int, campaign_id: int) -> int:
    """Message and stream, in the 88 bits that a lead and its campaign have. Raises OverflowError."""
    if campaign_id >> _STREAM_BITS or message_id >> _MESSAGE_BITS:
        raise OverflowError(f"no token can name message {message_id} of stream {campaign_id}")
    return message_id << _STREAM_BITS | campaign_id


def _named(body: bytes) -> tuple[int, int]:
    """(lead or message, campaign) of a token. No lead's number is as great as what a message has in its place."""
    number = int.from_bytes(body[1:], "big")
    if is_message(number >> 32):
        return number >> _STREAM_BITS, number & (1 << _STREAM_BITS) - 1
    return number >> 32, number & 0xFFFFFFFF


class ReturnTokens:
    """Names an email in its return address and its Message-ID: hand-off and lead, signed, as 40 hexadecimal digits.

    Hexadecimal, since the case of an address does not survive every server. Whoever holds one has seen that email, and
    can report on that email alone. Tokens signed with one of the `previous` secret keys are still read.
    """

    def __init__(self, secret_key: str, *previous: str) -> None:
        self._keys = [_derive(secret, b"return", 32) for secret in (secret_key, *previous)]
        self._keyed = blake2b(digest_size=_RETURN_MAC, key=self._keys[0])
        # a message's number is longer than a lead's: its tokens have a shape of their own, and a key that tells it
        self._of_messages = [_derive(secret, b"return message", 32) for secret in (secret_key, *previous)]

    def token(self, handoff_id: int, lead_id: int) -> str:
        """The token of one email, the same each time."""
        if is_message(lead_id):
            named = (handoff_id << _MESSAGE_BITS | lead_id).to_bytes(_RETURN_BODY, "big")
            return (named + blake2b(named, digest_size=_RETURN_MAC, key=self._of_messages[0]).digest()).hex()
        body = (handoff_id << 48 | lead_id).to_bytes(_RETURN_BODY, "big")
        mac = self._keyed.copy()
        mac.update(body)
        return (body + mac.digest()).hex()

    def find(self, text: bytes) -> list[tuple[int, int]]:
        """(hand-off, lead) of every token of ours in a text, in order, each once; microseconds for each forgery."""
        found = dict.fromkeys(_RETURN.findall(text))
        return [named for each in found if (named := self._read(bytes.fromhex(each.decode("ascii")))) is not None]

    def _read(self, signed: bytes) -> tuple[int, int] | None:
        body, claimed = signed[:_RETURN_BODY], signed[_RETURN_BODY:]
        for keys, bits in ((self._keys, 48), (self._of_messages, _MESSAGE_BITS)):
            for key in keys:
                if hmac.compare_digest(blake2b(body, digest_size=_RETURN_MAC, key=key).digest(), claimed):
                    number = int.from_bytes(body, "big")
                    return number >> bits, number & (1 << bits) - 1
        return None


class TrackingTokens:
    """Names lead and campaign in tracked links and pixels: 28 characters from A-Z a-z 0-9 - _.

    Signed under a key of their own: a link that is passed on gives no way to unsubscribe whom it was sent to. Lead 0 is
    nobody. Tokens signed with one of the `previous` secret keys are still read.
    """

    def __init__(self, secret_key: str, *previous: str) -> None:
        keys = [_derive(secret, b"tracking", 33) for secret in (secret_key, *previous)]
        self._keys = [(key[0], blake2b(digest_size=_TRACKING_MAC, key=key[1:])) for key in keys]

    def signer(self, campaign_id: int) -> Callable[[int], str]:
        """lead -> its token in this campaign. A closure, since it runs once an email."""
        number, keyed = self._keys[0]
        rest, encode = number << 88 | campaign_id, b2a_base64

        def token(lead_id: int) -> str:
            named = number << 88 | _of_message(lead_id, campaign_id) if is_message(lead_id) else rest | lead_id << 32
            body = named.to_bytes(_BODY, "big")
            mac = keyed.copy()
            mac.update(body)
            return encode(body + mac.digest(), newline=False).translate(_TO_URL).decode("ascii")

        return token

    def read(self, token: str) -> tuple[int, int] | None:
        """(lead, campaign) of a token; None for one that we never signed."""
        try:
            signed = a2b_base64(token.encode("ascii").translate(_FROM_URL), strict_mode=True)
        except ValueError:  # also where it is not ASCII
            return None
        if len(signed) != _BODY + _TRACKING_MAC or len(token) != _TRACKING:
            return None
        body, claimed = signed[:_BODY], signed[_BODY:]
        for number, keyed in self._keys:
            mac = keyed.copy()
            mac.update(body)
            if hmac.compare_digest(mac.digest(), claimed) and number == body[0]:
                return _named(body)
        return None


class Vault:
    """Encrypts what the database keeps and nobody may read there: pool addresses with their credentials."""

    def __init__(self, secret_key: str, *previous: str) -> None:
        secrets = (secret_key, *previous)
        self._digests = _derive(secret_key, b"vault digests", 32)
        self._fernet = MultiFernet([Fernet(b2a_base64(_derive(key, b"vault", 32), newline=False)) for key in secrets])

    def encrypt(self, plain: str) -> bytes:
        """Different bytes each time, that only a Vault of the same secret key reads."""
        return self._fernet.encrypt(plain.encode())

    def digest(self, plain: str) -> bytes:
        """16 bytes by which two secrets are told to be the same, and nothing else, while the secret key is."""
        return blake2b(plain.encode(), key=self._digests, digest_size=16).digest()

    def decrypt(self, secret: bytes) -> str:
        """What was encrypted; raises ConfigError where that was done under another key, or the bytes were changed."""
        try:
            return self._fernet.decrypt(bytes(secret)).decode()
        except InvalidToken:
            raise ConfigError(
                "A stored credential cannot be read: it was encrypted under another SECRET_KEY. Set the old one again, "
                "or enter the pool's address anew."
            ) from None


def _derive(secret_key: str, purpose: bytes, length: int) -> bytes:
    """A key for one purpose (HKDF, RFC 5869): knowing one says nothing of another."""
    return HKDF(SHA256(), length, salt=None, info=b"millrace " + purpose).derive(secret_key.encode())
