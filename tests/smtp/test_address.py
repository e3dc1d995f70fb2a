"""The grammar of paths and mailboxes. RFC 5321 s4.1.2, RFC 6531 s3.3."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import canonical_literal, parse_mailbox
from mta.message import Address
from mta.smtp import NULL_PATH
from mta.smtp.address import parse_forward_path, parse_reverse_path

LOCAL_64 = "l" * 64
LABEL_63 = "d" * 63
# 64 + 1 + 189 = 254 octets, 256 with the brackets.
DOMAIN_189 = ".".join([LABEL_63, LABEL_63, "d" * 61])

ACCEPTED = [
    # The ordinary ones: case kept in the local part, domain lowercase.
    ("<alice@example.org>", "alice", "example.org", "alice@example.org"),
    ("<Alice.B@EXAMPLE.Org>", "Alice.B", "example.org", "Alice.B@EXAMPLE.Org"),
    ("<a@b>", "a", "b", "a@b"),
    ("<!#$%&'*+-/=?^_`{|}~@example.org>", "!#$%&'*+-/=?^_`{|}~", "example.org", None),
    ("<a@1.2.3.4>", "a", "1.2.3.4", None),
    ("<a@x--y.c-d>", "a", "x--y.c-d", None),
    # Tolerated: spaces between the colon and the path.
    ("  <a@b.c>", "a", "b.c", "a@b.c"),
    # Quoted strings: what is inside counts, what was written is sent on.
    ('<"a b"@c.d>', "a b", "c.d", '"a b"@c.d'),
    ('<"a\\"b\\\\c"@c.d>', 'a"b\\c', "c.d", '"a\\"b\\\\c"@c.d'),
    ('<"a>b@c"@d.e>', "a>b@c", "d.e", None),
    ('<""@c.d>', "", "c.d", None),
    # Source routes are understood and dropped.
    ("<@a,@b.c:user@d>", "user", "d", "user@d"),
    ('<@a:"x:y"@d>', "x:y", "d", '"x:y"@d'),
    # Address literals, in one form.
    ("<a@[1.2.3.4]>", "a", "[1.2.3.4]", None),
    ("<a@[ipv6:2001:DB8:0:0::1]>", "a", "[IPv6:2001:db8::1]", None),
    ("<a@[IPv6:::]>", "a", "[IPv6:::]", None),
    ("<a@[IPv6:1:2:3:4:5:6:7::]>", "a", "[IPv6:1:2:3:4:5:6:7:0]", None),
    ("<a@[IPv6:64:FF9B::1.2.3.4]>", "a", "[IPv6:64:ff9b::102:304]", None),
    # As long as may be.
    (f"<{LOCAL_64}@{LABEL_63}>", LOCAL_64, LABEL_63, None),
    (f"<{LOCAL_64}@{DOMAIN_189}>", LOCAL_64, DOMAIN_189, None),
    # Beyond ASCII: NFC and lowercase, but the sharp s stays what it is.
    ("<用户@例え.example>", "用户", "例え.example", None),
    ("<a@BU\u0308CHER.example>", "a", "bücher.example", None),
    ("<a@Straße.example>", "a", "straße.example", None),
    ('<"grün e"@b.c>', "grün e", "b.c", None),
]

REFUSED = [
    # No path, or more than one.
    "",
    "a@b.c",
    "<a@b.c",
    "a@b.c>",
    "<a@b.c>>",
    "<<a@b.c>>",
    "<a@b.c>x",
    "<a@b.c>\tSIZE=1",
    "Alice <a@b.c>",
    "< a@b.c>",
    "<a@b.c >",
    "< >",
    # Without a domain, or without a local part.
    "<a>",
    "<@b.c>",
    "<@>",
    "<a@>",
    # Dots, hyphens and other strangers.
    "<.a@b.c>",
    "<a.@b.c>",
    "<a..b@c.d>",
    "<a@.b>",
    "<a@b.>",
    "<a@b..c>",
    "<a@-b.c>",
    "<a@b-.c>",
    "<a@b_c.d>",
    "<a@b c.d>",
    "<a@b@c.d>",
    "<a b@c.d>",
    "<a(b)@c.d>",
    "<a\\@b@c.d>",
    "<a\x01@b.c>",
    "<a\x7f@b.c>",
    # Quoted strings that are none.
    '<"a@b.c>',
    '<"a"b@c.d>',
    '<"a"."b"@c.d>',
    '<a"b"@c.d>',
    '<"a\\"@b.c>',
    '<"a\x01"@b.c>',
    '<"a\\ü"@b.c>',
    # Source routes that are none.
    "<@a:>",
    "<@a,b:c@d.e>",
    "<@a,:c@d.e>",
    "<@a..b:c@d.e>",
    "<@a @b:c@d.e>",
    "<:c@d.e>",
    # Literals that are none.
    "<a@[]>",
    "<a@[1.2.3]>",
    "<a@[1.2.3.256]>",
    "<a@[1.2.3.04]>",
    "<a@[1.2.3.4>",
    "<a@1.2.3.4]>",
    "<a@[1.2.3.4].org>",
    "<a@[::1]>",
    "<a@[IPv6:1.2.3.4]>",
    "<a@[IPv6:::1%eth0]>",
    "<a@[IPv6:1::2::3]>",
    "<a@[x-tag:content]>",
    "<a@[\u0661.2.3.4]>",
    # Too long, each part by one.
    f"<{LOCAL_64}l@b.c>",
    f'<"{LOCAL_64[:-1]}"@b.c>',
    f"<a@{LABEL_63}d.org>",
    f"<{LOCAL_64}@{DOMAIN_189}d>",
    f"<{'ü' * 33}@b.c>",
    # Beyond ASCII, but no name.
    "<a@b\u3002c>",
    "<a@b\u2028.c>",
    "<a@\u0301b.c>",
    "<a@-ü.c>",
    "<a@☃.example>",
    "<a\x85@b.c>",
    f"<a@{'ü' * 60}.example>",
]


@pytest.mark.parametrize(("path", "local", "domain", "text"), ACCEPTED)
def test_parse_path_well_formed_gives_address_both_ways(path: str, local: str, domain: str, text: str | None) -> None:
    wanted = Address(local, domain, path.strip(" ")[1:-1] if text is None else text)
    assert parse_reverse_path(b"FROM:" + path.encode()) == (wanted, "")
    assert parse_forward_path(b"to:" + path.encode() + b"  A=1 B") == (wanted, "A=1 B")


@pytest.mark.parametrize("path", REFUSED)
def test_parse_path_malformed_is_refused_with_a_sentence(path: str) -> None:
    for refusal in (parse_reverse_path(b"FROM:" + path.encode()), parse_forward_path(b"TO:" + path.encode())):
        assert isinstance(refusal, str)
        assert refusal.isascii()
        assert refusal.isprintable()


def test_parse_reverse_path_null_path_is_the_null_address() -> None:
    assert parse_reverse_path(b"FROM:<>") == (NULL_PATH, "")
    assert parse_reverse_path(b"From: <> SIZE=1") == (NULL_PATH, "SIZE=1")


def test_parse_forward_path_null_path_is_refused() -> None:
    assert isinstance(parse_forward_path(b"TO:<>"), str)


def test_parse_forward_path_postmaster_needs_no_domain() -> None:
    assert parse_forward_path(b"TO:<PostMaster>") == (Address("PostMaster", "", "PostMaster"), "")
    assert isinstance(parse_reverse_path(b"FROM:<postmaster>"), str)


@pytest.mark.parametrize("argument", [b"", b"<a@b.c>", b"FROM <a@b.c>", b"FROM :<a@b.c>", b"TO:<a@b.c>", b"FROM:"])
def test_parse_reverse_path_wrong_keyword_is_refused(argument: bytes) -> None:
    assert isinstance(parse_reverse_path(argument), str)


def test_parse_path_bad_utf8_is_refused() -> None:
    assert isinstance(parse_reverse_path(b"FROM:<\xc3@b.c>"), str)
    # An encoded surrogate and an overlong form are no UTF-8 either. RFC 3629 s3.
    assert isinstance(parse_forward_path(b"TO:<\xed\xa0\x80@b.c>"), str)
    assert isinstance(parse_forward_path(b"TO:<\xc0\xafx@b.c>"), str)


@pytest.mark.parametrize(
    "path",
    [
        # What makes a regular expression that backtracks take ages.
        "<" + "a" * 2000,
        "<" + "a." * 1000 + ">",
        "<a@" + "b-" * 1000 + ">",
        "<a@" + "b." * 1000 + ">",
        '<"' + "\\a" * 1000,
        '<"a"' * 500,
        "<@" + "a,@" * 600 + ":x@y>",
        "<a@" + "\u0301" * 900 + ">",
    ],
)
def test_parse_path_hostile_argument_takes_no_time(path: str) -> None:
    before_s = time.perf_counter()
    assert isinstance(parse_reverse_path(b"FROM:" + path.encode()), str)
    assert time.perf_counter() - before_s < 0.1


@given(st.binary(max_size=60))
def test_parse_path_any_octets_never_raises(octets: bytes) -> None:
    parse_reverse_path(b"FROM:<" + octets + b">")
    parse_forward_path(b"TO:" + octets)


@given(st.text(alphabet='ab.-@"\\<>[]: ,1ü', max_size=24))
def test_parse_path_accepted_text_reads_back_as_the_same_address(text: str) -> None:
    path = parse_forward_path(f"TO:<{text}>".encode())
    if not isinstance(path, str) and path[0].domain:
        assert parse_mailbox(path[0].text) == path[0]
        assert parse_forward_path(f"TO:<{path[0].text}>".encode()) == (path[0], "")


def test_canonical_literal_malformed_is_none() -> None:
    assert canonical_literal("[10.0.0.1]") == "[10.0.0.1]"
    assert canonical_literal("10.0.0.1") is None
    assert canonical_literal("[IPv6:fe80::1%lo]") is None
