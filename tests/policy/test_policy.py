"""Verdicts on clients and recipients, as a client's own spelling of the recipient leads to them."""

from pathlib import Path

import pytest

from mta.address import parse_mailbox
from mta.config import Local, Relay
from mta.errors import ConfigError
from mta.message import Address
from mta.policy import REPLY_451_MAILBOXES, Policy
from mta.reply import REPLY_550_NO_SUCH_USER, REPLY_554_RELAY_DENIED, Reply

RELAY = Relay(networks=("127.0.0.0/8", "::1/128", "192.0.2.0/24", "2001:db8::/32"))
POSTMASTER = Address("postmaster", "", "postmaster")


def address(text: str) -> Address:
    """Return what the parser makes of the text of a RCPT."""
    parsed = parse_mailbox(text)
    assert isinstance(parsed, Address)
    return parsed


@pytest.fixture
def local(tmp_path: Path) -> Local:
    for mailbox in ("alice", "50%25off"):
        (tmp_path / "local.test" / mailbox).mkdir(parents=True)
    return Local(domains=("local.test", "second.test"), maildir=f"{tmp_path}/{{domain}}/{{local}}")


@pytest.mark.parametrize(
    ("client_ip", "trusted"),
    [
        # In a listed network.
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("192.0.2.255", True),
        ("::1", True),
        ("2001:db8:1::25", True),
        # Not in one.
        ("192.0.3.0", False),
        ("10.0.0.1", False),
        ("2001:db9::1", False),
        ("::", False),
        # IPv4 seen through an IPv6 socket is IPv4, in any spelling; other addresses that embed one are not.
        ("::ffff:192.0.2.1", True),
        ("::FFFF:c000:201", True),
        ("::ffff:192.0.3.1", False),
        ("::127.0.0.1", False),
        # What is no address is trusted by nobody.
        ("", False),
        ("localhost", False),
        ("127.0.0.1 ", False),
        ("127.1", False),
    ],
)
def test_policy_trusts_clients_of_listed_networks_only(client_ip: str, trusted: bool) -> None:
    assert Policy(RELAY, Local()).trusts(client_ip) is trusted


@pytest.mark.parametrize(
    "text",
    [
        # Plainly elsewhere, or below a local domain.
        "victim@other.test",
        "alice@sub.local.test",
        "alice@notlocal.test",
        "postmaster@other.test",
        # Routes hidden in the local part of a local address.
        "victim%other.test@local.test",
        "other.test!victim@local.test",
        '"victim@other.test"@local.test',
        '"victim\\@other.test"@local.test',
        "%@local.test",
        "victim%other.test@LOCAL.test",
        # An address literal is local only if it is listed.
        "victim@[127.0.0.1]",
        "alice@[IPv6:::1]",
    ],
)
def test_policy_rcpt_untrusted_to_elsewhere_is_denied(text: str, local: Local) -> None:
    assert Policy(RELAY, local).rcpt(address(text), False) == REPLY_554_RELAY_DENIED


def test_policy_rcpt_untrusted_existing_mailbox_with_routing_sign_is_denied(local: Local) -> None:
    policy = Policy(RELAY, local)
    assert policy.rcpt(address("50%off@local.test"), False) == REPLY_554_RELAY_DENIED
    assert policy.rcpt(address("50%off@local.test"), True) == address("50%off@local.test")


@pytest.mark.parametrize("text", ["victim@other.test", "a%b@other.test", "victim@[127.0.0.1]", "nobody@sub.local.test"])
def test_policy_rcpt_trusted_may_send_anywhere(text: str, local: Local) -> None:
    assert Policy(RELAY, local).rcpt(address(text), True) == address(text)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("text", ["alice@local.test", "ALICE@Local.Test", '"alice"@local.test'])
def test_policy_rcpt_mailbox_is_there_is_accepted_as_given(text: str, trusted: bool, local: Local) -> None:
    assert Policy(RELAY, local).rcpt(address(text), trusted) == address(text)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "text", ["bob@local.test", "alice@second.test", '"../local.test/alice"@local.test', '""@local.test']
)
def test_policy_rcpt_mailbox_is_missing_is_550(text: str, trusted: bool, local: Local) -> None:
    assert Policy(RELAY, local).rcpt(address(text), trusted) == REPLY_550_NO_SUCH_USER


def test_policy_rcpt_with_create_any_local_mailbox_will_do(tmp_path: Path) -> None:
    local = Local(domains=("local.test",), maildir=f"{tmp_path}/{{domain}}/{{local}}", create=True)
    assert Policy(RELAY, local).rcpt(address("new@local.test"), False) == address("new@local.test")
    assert not list(tmp_path.iterdir())


def test_policy_rcpt_mailbox_cannot_be_looked_up_is_451(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    local = Local(domains=("local.test",), maildir=f"{tmp_path}/loop/{{local}}")
    verdict = Policy(RELAY, local).rcpt(address("alice@local.test"), False)
    assert isinstance(verdict, Reply)
    assert verdict.wire == REPLY_451_MAILBOXES.wire
    assert verdict.why == f"{tmp_path}/loop/alice: Too many levels of symbolic links"


def test_policy_rcpt_literal_that_is_listed_is_local(tmp_path: Path) -> None:
    local = Local(
        domains=("[192.0.2.1]", "[IPv6:2001:db8::1]"), maildir=f"{tmp_path}/{{domain}}/{{local}}", create=True
    )
    policy = Policy(RELAY, local)
    for text in ("alice@[192.0.2.1]", "alice@[ipv6:2001:DB8:0::1]"):
        assert policy.rcpt(address(text), False) == address(text)
    assert policy.rcpt(address("alice@[192.0.2.2]"), False) == REPLY_554_RELAY_DENIED


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "recipient",
    [
        POSTMASTER,
        Address("PostMaster", "", "PostMaster"),
        address("postmaster@local.test"),
        address("POSTMASTER@second.test"),
        address('"Postmaster"@SECOND.test'),
    ],
)
@pytest.mark.parametrize("setting", ["", "alice@local.test", "boss@other.test"])
def test_policy_rcpt_postmaster_goes_to_the_one_mailbox(
    setting: str, recipient: Address, trusted: bool, local: Local
) -> None:
    settings = Local(domains=local.domains, maildir=local.maildir, postmaster=setting)
    expected = address(setting or "postmaster@local.test")
    assert Policy(RELAY, settings).rcpt(recipient, trusted) == expected


@pytest.mark.parametrize("trusted", [False, True])
def test_policy_rcpt_postmaster_without_domains_and_setting_is_550(trusted: bool) -> None:
    assert Policy(RELAY, Local()).rcpt(POSTMASTER, trusted) == REPLY_550_NO_SUCH_USER


def test_policy_rcpt_postmaster_without_domains_goes_where_it_is_set() -> None:
    policy = Policy(RELAY, Local(postmaster="boss@other.test"))
    assert policy.rcpt(POSTMASTER, False) == address("boss@other.test")


def test_policy_rcpt_remote_postmaster_of_trusted_client_is_left_alone(local: Local) -> None:
    assert Policy(RELAY, local).rcpt(address("postmaster@other.test"), True) == address("postmaster@other.test")


def test_policy_postmaster_that_is_no_address_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"local\.postmaster"):
        Policy(RELAY, Local(postmaster="boss"))


def test_policy_replies_are_as_pinned() -> None:
    wires = [reply.wire for reply in (REPLY_554_RELAY_DENIED, REPLY_550_NO_SUCH_USER, REPLY_451_MAILBOXES)]
    assert [wire[:9] for wire in wires] == [b"554 5.7.1", b"550 5.1.1", b"451 4.3.0"]
    assert all(isinstance(reply, Reply) for reply in (REPLY_451_MAILBOXES,))
