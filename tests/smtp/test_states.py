"""The table of states agrees with the compiled verbs, and with the commands that the session runs."""

from mta._fast import command
from mta.smtp.session import COMMANDS
from mta.smtp.states import ROWS, State, Verb, explain


def test_verb_values_are_the_codes_of_the_scanner() -> None:
    for verb in Verb:
        assert command.VERBS[verb] == verb.name
    assert list(Verb) == list(range(len(Verb)))


def test_rows_every_state_and_every_verb_has_its_place() -> None:
    assert set(ROWS) == set(State)
    assert set(COMMANDS) == set(Verb)
    assert {verb for row in ROWS.values() for verb in row.moves} == set(Verb)


def test_rows_begin_and_end_are_legal_wherever_commands_are_read() -> None:
    for state in (State.START, State.READY, State.MAIL, State.RCPT):
        moves = ROWS[state].moves
        assert moves[Verb.EHLO] is moves[Verb.HELO] is State.READY
        assert moves[Verb.QUIT] is State.CLOSED
        assert moves[Verb.RSET] in (State.START, State.READY)
        assert all(moves[verb] is state for verb in (Verb.NOOP, Verb.HELP, Verb.VRFY))


def test_explain_data_without_recipient_says_so() -> None:
    assert explain(State.MAIL, Verb.DATA).code == 554
    assert explain(State.MAIL, Verb.MAIL).code == 503
    assert explain(State.START, Verb.DATA).code == 503
