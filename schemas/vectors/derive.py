#!/usr/bin/env python3
"""Writes code.json: vectors of the derivation that README.md describes, by nothing but Python's standard library.

    python3 derive.py > code.json
"""

import hashlib
import hmac
import json
import struct
import uuid


def field(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def vector(comment, key, app, challenge, nonce, digits, transaction=None):
    digest = b""
    if transaction is not None:
        amount, payee = transaction["amount"].encode(), transaction["payee"].encode()
        digest = hashlib.sha256(field(amount) + field(payee)).digest()
    parts = [b"otpost/code/v1", app.encode(), uuid.UUID(challenge).bytes, nonce, digest, bytes([digits])]
    message = b"".join(field(part) for part in parts)
    output = hmac.new(key, message, hashlib.sha256).digest()
    code = str(int.from_bytes(output[:16], "big") % 10**digits).zfill(digits)
    v = {"comment": comment, "key": key.hex(), "app": app, "challenge": challenge, "nonce": nonce.hex(), "digits": digits}
    if transaction is not None:
        v |= {"transaction": transaction, "transaction_digest": digest.hex()}
    return v | {"message": message.hex(), "hmac": output.hex(), "code": code}


KEY = bytes(range(32))
NONCE = bytes(range(0x10, 0x20))
CHALLENGE = "0193503c-7a80-7c1e-9d2a-3f1be2a45c07"
PAYMENT = {"amount": "39.99 EUR", "payee": "Shop"}


def leading_zeros():
    """The first nonce whose code begins with two zeros, since a number printed without padding would lose them."""
    for n in range(1 << 16):
        v = vector("leading zeros", KEY, "shop", CHALLENGE, n.to_bytes(16, "big"), 6)
        if v["code"].startswith("00"):
            return v


vectors = [vector(f"{digits} digits", KEY, "shop", CHALLENGE, NONCE, digits) for digits in range(4, 11)]
vectors += [vector(f"{digits} digits and a transaction", KEY, "shop", CHALLENGE, NONCE, digits, PAYMENT) for digits in (4, 6, 10)]
vectors += [
    vector("another key", bytes.fromhex("ff" * 32), "shop", CHALLENGE, NONCE, 6),
    vector("a key longer than the block of SHA-256", bytes(range(100)), "shop", CHALLENGE, NONCE, 6),
    vector("another app", KEY, "shop-2", CHALLENGE, NONCE, 6),
    vector("an app name of 64 characters", KEY, "a" * 64, CHALLENGE, NONCE, 8),
    vector("an app name outside ASCII, in UTF-8: no app may have one, but the derivation must not care", KEY, "obchůdek-東京", CHALLENGE, NONCE, 6),
    vector("another challenge", KEY, "shop", "ffffffff-ffff-7fff-bfff-ffffffffffff", NONCE, 6),
    vector("a nonce of zeros", KEY, "shop", CHALLENGE, bytes(16), 6),
    vector("a nonce of ones", KEY, "shop", CHALLENGE, b"\xff" * 16, 6),
    vector("a payee outside ASCII, in UTF-8", KEY, "shop", CHALLENGE, NONCE, 6, {"amount": "1 200 Kč", "payee": "Zelinářství U Žižky 🥕"}),
    vector("the border between amount and payee counts: ab + c", KEY, "shop", CHALLENGE, NONCE, 6, {"amount": "ab", "payee": "c"}),
    vector("the border between amount and payee counts: a + bc", KEY, "shop", CHALLENGE, NONCE, 6, {"amount": "a", "payee": "bc"}),
    vector("a composed letter", KEY, "shop", CHALLENGE, NONCE, 6, {"amount": "5 EUR", "payee": "Caf\u00e9"}),
    vector("the same letter decomposed: no normalisation", KEY, "shop", CHALLENGE, NONCE, 6, {"amount": "5 EUR", "payee": "Cafe\u0301"}),
    leading_zeros(),
]

if __name__ == "__main__":
    print(json.dumps({"algorithm": "otpost/code/v1", "vectors": vectors}, indent=2))
