"""Answers as octets: what they mean, and that nothing in them can hurt."""

import random
import struct

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dns.answer import Answer, Kind, Record
from mta.dns.wire import MOST_RECORDS, NO_EDNS, TRUNCATED, Question, Unaskable, make_question, read_answer
from tests.harness.oddserver import answer, error, truncated

SOA = "a.test. 500 IN SOA ns.a.test. root.a.test. 1 2 3 4 77"


def reply(question: Question, answers: tuple[str, ...] = (), authority: tuple[str, ...] = (), rcode: int = 0) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(question.wire))
    response.set_rcode(dns.rcode.Rcode(rcode))
    for section, lines in ((response.answer, answers), (response.authority, authority)):
        for line in lines:
            name, ttl, _, kind, rdata = line.split(" ", 4)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, rdata))
    return response.to_wire(max_size=65_535)


@pytest.mark.parametrize(
    ("kind", "answers", "expected"),
    [
        ("A", ("a.test. 60 IN A 192.0.2.1",), Answer("found", (Record(0, "192.0.2.1"),), 60.0)),
        ("AAAA", ("a.test. 60 IN AAAA 2001:db8::1",), Answer("found", (Record(0, "2001:db8::1"),), 60.0)),
        ("MX", ("A.test. 60 IN MX 10 MX.A.test.",), Answer("found", (Record(10, "mx.a.test"),), 60.0)),
        # A null MX is the root.
        ("MX", ("a.test. 60 IN MX 0 .",), Answer("found", (Record(0, ""),), 60.0)),
        # An alias, and the shortest time of all.
        (
            "A",
            ("a.test. 9 IN CNAME b.test.", "b.test. 60 IN A 192.0.2.2"),
            Answer("found", (Record(0, "192.0.2.2"),), 9.0, "", "b.test"),
        ),
        # What belongs to another name is not ours.
        ("A", ("b.test. 60 IN A 192.0.2.2",), None),
    ],
)
def test_read_answer_records(kind: Kind, answers: tuple[str, ...], expected: Answer | None) -> None:
    question = make_question("a.test", kind)
    got = read_answer(question, reply(question, answers))
    if expected is None:
        assert got is not None
        assert got.status == "no_data"
    else:
        assert got == expected


@pytest.mark.parametrize(
    ("rcode", "authority", "status", "ttl_s"),
    [
        # RFC 2308 s5: the lesser of the SOA's own time and its last number.
        (3, (SOA,), "no_name", 77.0),
        (0, (SOA,), "no_data", 77.0),
        (0, ("a.test. 5 IN SOA ns.a.test. root.a.test. 1 2 3 4 77",), "no_data", 5.0),
        # A referral is no answer.
        (0, ("a.test. 60 IN NS ns.a.test.",), "failed", 1.0),
        (2, (), "failed", 1.0),
        (5, (), "failed", 1.0),
    ],
)
def test_read_answer_without_records(rcode: int, authority: tuple[str, ...], status: str, ttl_s: float) -> None:
    question = make_question("a.test", "MX")
    got = read_answer(question, reply(question, (), authority, rcode))
    assert got is not None
    assert (got.status, got.ttl_s, got.records) == (status, ttl_s, ())


def test_read_answer_alias_that_leads_out_of_the_answer_is_told() -> None:
    question = make_question("a.test", "A")
    got = read_answer(question, reply(question, ("a.test. 60 IN CNAME B.other.test.",)))
    assert got is not None
    assert (got.status, got.canonical) == ("no_data", "b.other.test")


def test_read_answer_what_asks_for_another_way() -> None:
    question = make_question("a.test", "A")
    assert read_answer(question, truncated(question.wire)) is TRUNCATED
    assert read_answer(question, error(question.wire, "FORMERR")) is NO_EDNS
    assert read_answer(question, error(question.wire, "NOTIMP")) is NO_EDNS


def hostile(question: Question, what: str) -> bytes:
    """Return something that looks like an answer and is none."""
    wire = answer(question.wire, "a.test 60 IN A 192.0.2.1")
    header = question.wire[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    asked = b"\x01a\x04test\0\0\x01\0\x01"
    match what:
        case "wrong id":
            return bytes((wire[0] ^ 1,)) + wire[1:]
        case "a query":
            return question.wire
        case "another question":
            return answer(question.wire[:13] + b"b" + question.wire[14:], "b.test 60 IN A 192.0.2.1")
        case "another kind":
            return wire[:12] + asked[:-3] + b"\x0f\0\x01" + wire[12 + len(asked) :]
        case "pointer to itself":
            return header + asked + b"\xc0\x18" + b"\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01"
        case "pointers in a circle":
            return header + asked + b"\xc0\x1a\xc0\x18\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01"
        case "record past the end":
            return header + asked + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\xff\xff\xc0\0\x02\x01"
        case "address of three octets":
            return header + asked + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x03\xc0\0\x02"
        case "name of 300 octets":
            return header + asked + (b"\x3f" + b"x" * 63) * 5 + b"\0\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01"
        case "label type of the future":
            return header + asked + b"\x80\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01"
        case "short":
            return wire[:5]
        case "nothing":
            return b""
    raise ValueError(what)


@pytest.mark.parametrize(
    "what",
    [
        "wrong id",
        "a query",
        "another question",
        "another kind",
        "pointer to itself",
        "pointers in a circle",
        "record past the end",
        "address of three octets",
        "name of 300 octets",
        "label type of the future",
        "short",
        "nothing",
    ],
)
def test_read_answer_hostile_is_passed_over(what: str) -> None:
    question = make_question("a.test", "A")
    assert read_answer(question, hostile(question, what)) is None


def test_read_answer_aliases_in_a_circle_are_a_failure() -> None:
    question = make_question("a.test", "A")
    got = read_answer(question, reply(question, ("a.test. 9 IN CNAME b.test.", "b.test. 9 IN CNAME a.test.")))
    assert got is not None
    assert got.status == "failed"


@pytest.mark.parametrize("n_records", [101, 200, 201, 3600])
@pytest.mark.parametrize("order", ["best first", "best last", "rotated"])
def test_read_answer_keeps_the_best_hundred_records_wherever_they_stand(n_records: int, order: str) -> None:
    question = make_question("a.test", "MX")
    record = b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x06"
    records = [record + struct.pack(">H", n) + b"\x01" + b"%c" % (97 + n % 26) + b"\xc0\x0c" for n in range(n_records)]
    if order == "best last":
        records.reverse()
    elif order == "rotated":
        random.Random(n_records).shuffle(records)
    got = read_answer(question, many(question, records))
    assert got is not None
    assert [(each.preference, each.text) for each in got.records] == [
        (n, f"{chr(97 + n % 26)}.a.test") for n in range(MOST_RECORDS)
    ]
    assert (got.status, got.ttl_s) == ("found", 60.0)


def test_read_answer_of_many_records_is_found_behind_an_alias() -> None:
    question = make_question("a.test", "A")
    records = [b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04\x01b\xc0\x0e"]
    # b.test, as the alias's data has it.
    records += [b"\xc0\x24\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0" + struct.pack(">H", n) for n in range(3000)]
    got = read_answer(question, many(question, records))
    assert got is not None
    assert (got.status, got.canonical, got.ttl_s, len(got.records)) == ("found", "b.test", 9.0, MOST_RECORDS)
    assert got.records[0] == Record(0, "192.0.0.0")


def test_read_answer_of_many_aliases_follows_one_of_them() -> None:
    question = make_question("a.test", "A")
    record = b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04"
    records = [record + b"\x01" + b"%c" % (98 + n % 24) + b"\xc0\x0e" for n in range(3000)]
    got = read_answer(question, many(question, records))
    assert got is not None
    assert (got.status, got.ttl_s) == ("no_data", 9.0)
    assert got.canonical.endswith(".test")


def many(question: Question, records: list[bytes]) -> bytes:
    """Return an answer with these records; a.test stands at 12 in it, and the first of them begins at 24."""
    header = question.wire[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
    kind = b"\0\x0f" if question.kind == "MX" else b"\0\x01"
    return header + b"\x01a\x04test\0" + kind + b"\0\x01" + b"".join(records)


def test_read_answer_count_that_lies_about_ten_thousand_records_is_passed_over() -> None:
    question = make_question("a.test", "A")
    wire = answer(question.wire, "a.test 60 IN A 192.0.2.1")
    assert read_answer(question, wire[:6] + struct.pack(">H", 10_000) + wire[8:]) is None


@given(st.binary(max_size=600))
def test_read_answer_any_octets_raise_nothing(octets: bytes) -> None:
    question = make_question("a.test", "MX")
    read_answer(question, octets)
    read_answer(question, question.wire[:2] + b"\x81\x80" + octets)
    read_answer(question, question.wire[:2] + b"\x81\x80" + question.wire[4:] + octets)


def test_read_answer_any_bit_turned_raises_nothing() -> None:
    question = make_question("a.test", "MX")
    wire = reply(question, ("a.test. 60 IN MX 10 mx.a.test.", "a.test. 60 IN MX 20 mx2.a.test."), (SOA,))
    chance = random.Random(1)
    for at in range(2, len(wire)):
        turned = bytearray(wire)
        turned[at] ^= 1 << chance.randrange(8)
        read_answer(question, bytes(turned))


@pytest.mark.parametrize("name", ["", "a..test", "x" * 64 + ".test", ".".join(["x" * 60] * 5), "\u00fc" * 60 + ".test"])
def test_make_question_name_that_fits_no_question(name: str) -> None:
    with pytest.raises(Unaskable):
        make_question(name, "A")


def test_make_question_asks_with_edns_for_recursion_and_in_a_labels() -> None:
    # IDNA of 2008: the sharp s is a letter of its own.
    question = make_question("stra\u00dfe.b\u00fccher.test", "MX")
    assert question.message.question[0].name.to_text() == "xn--strae-oqa.xn--bcher-kva.test."
    assert question.message.flags & dns.flags.RD
    assert (question.message.edns, question.message.payload) == (0, 1232)
    assert make_question("a.test", "A", edns=False).message.edns == -1
