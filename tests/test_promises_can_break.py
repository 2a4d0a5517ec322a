"""Each promise is broken once, on purpose, and the tests must see it.

A promise that no test can fail is a hope. Each of the ``BREAKS`` changes one place of the source, in a copy, and names
the test that must then fail. The first of them is the one an operator fears most: more people at the shop than it
bears. A break whose text is no longer found fails too, so this list moves with the source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 60

CROWDS = "tests/test_crowds.py::"
CAPS = CROWDS + "test_neither_cap_is_ever_exceeded"
ORDER = CROWDS + "test_nobody_is_called_before_somebody_present_and_before_them"
KILLED = CROWDS + "test_a_killed_process_costs_nobody_the_place"
LINE = "tests/core/test_queueing.py::"
LASTING = "tests/core/test_lasting.py::"
STORE = "tests/test_store_contract.py::"
RELOAD = "tests/faults/test_reload.py::"
SUPERVISOR = "tests/test_supervisor.py::"
EVENTS = "tests/test_events.py::"


@dataclass(frozen=True)
class Break:
    """What is changed in which file of ``waitroom/``, and which test must see it."""

    what: str
    file: str
    before: str
    after: str
    seen_by: str


BREAKS = [
    Break(
        "P3 the called count for nothing",
        "core/queueing.py",
        " - self._tally[INSIDE] - self._tally[CALLED]",
        " - self._tally[INSIDE]",
        CAPS + "[half-ghosts-line-7]",
    ),
    Break(
        "P3 those inside count for nothing",
        "core/queueing.py",
        " - self._tally[INSIDE] - self._tally[CALLED]",
        " - self._tally[CALLED]",
        CAPS + "[faithful-standby-7]",
    ),
    Break(
        "P3 a claim does not ask the minute",
        "core/queueing.py",
        "if self.room.queue_all or not self.admissions.room(now_ms) or self._ended:",
        "if self.room.queue_all or self._ended:",
        CAPS + "[faithful-tight-7]",
    ),
    Break(
        "P3 a minute may come in one second",
        "core/inlet.py",
        "return -(-self.per_minute // 60)",
        "return self.per_minute",
        CAPS + "[faithful-tight-7]",
    ),
    Break(
        "P3 a successor forgets the passes that are out",
        "store/book.py",
        "rests_until_ms=noted.rests_until_ms if noted else None",
        "rests_until_ms=0",
        KILLED + "[standby-6-7]",
    ),
    Break(
        "P3 a worker signs an end that the store does not hold",
        "service.py",
        "end_ms = self.view.inside.get(entry_pass.number, 0)\n        later",
        "end_ms = self.now_ms() + 60_000\n        later",
        "tests/test_service.py::test_no_end_is_signed_that_the_store_does_not_hold",
    ),
    Break(
        "P1 returners are never called first",
        "core/queueing.py",
        "while free and (number := self._next_returner(now_ms)) is not None:",
        "while not self.issued and (number := self._next_returner(now_ms)) is not None:",
        ORDER + "[late-line-7]",
    ),
    Break(
        "P1 any returner's claim is granted at once",
        "core/queueing.py",
        "self._rests(now_ms) or self._next_returner(now_ms) != number or",
        "self._rests(now_ms) or self._at(number) != RETURNER or",
        LINE + "test_a_late_claim_waits_behind_a_smaller_returner_who_is_present",
    ),
    Break(
        "P1 standby lets newcomers past the line",
        "core/queueing.py",
        "            and not self.present\n",
        "",
        ORDER + "[faithful-standby-7]",
    ),
    Break(
        "P2 a successor counts from one again",
        "core/queueing.py",
        "base = series_base(now_ms, max(known, self.issued))",
        "base = 1",
        KILLED + "[line-6-7]",
    ),
    Break(
        "P2 a record smaller than what was signed goes on as if nothing were missing",
        "store/book.py",
        "known.number > line.issued",
        "known.number > 2**60",
        STORE + "test_a_number_that_a_worker_saw_signed_is_never_given_again[memory]",
    ),
    Break(
        "P1 whoever believes to lead may call",
        "store/book.py",
        "fenced = not term or",
        "fenced = False and",
        STORE + "test_a_worker_that_slept_through_its_lease_changes_nothing[memory]",
    ),
    Break(
        "P5 time in which nobody could be heard counts against everyone",
        "core/queueing.py",
        "            self._born_ms += still_ms\n",
        "",
        LINE + "test_time_in_which_nobody_could_be_heard_makes_nobody_silent",
    ),
    Break(
        "P5 a held room's passes run out",
        "core/queueing.py",
        "            slot.end_ms += still_ms\n",
        "            slot.end_ms += 0\n",
        LINE + "test_a_held_room_moves_every_end_by_what_it_stood",
    ),
    Break(
        "P2 a record of another machine is believed",
        "store/sqlitefile.py",
        "self.trusted = sealed is not None and sealed[0] == self.incarnation and",
        "self.trusted = True or",
        "tests/test_sqlite.py::test_a_copy_from_another_machine_is_not_believed",
    ),
    Break(
        "P5 an old piece of the journal overrules a newer chunk",
        "core/lasting.py",
        "if stamp <= stamps.get(chunk_id, -1):",
        "if stamp <= -1:",
        LASTING + "test_a_forgotten_chunk_stays_forgotten",
    ),
    Break(
        "P2 an answer is given before it is kept",
        "store/sqlite.py",
        "            await self._keep(now_ms)\n        except Exception as error:",
        "            pass\n        except Exception as error:",
        "tests/test_sqlite.py::test_everything_that_was_answered_is_there_after_a_crash",
    ),
    Break(
        "P4 serving does not wait for who has not asked yet, and calls ghosts",
        "core/queueing.py",
        "elif chunk.standing[candidate & MASK] == NEW or not free:",
        "elif not free:",
        CROWDS + "test_who_is_silent_beyond_the_time_told_is_not_called[ninety-ghosts-line-7]",
    ),
    Break(
        "P4 serving does not pass over the silent",
        "core/queueing.py",
        "                    if chunk.due[candidate & MASK] < now_step:\n",
        "                    if chunk.due[candidate & MASK] < 0:\n",
        LINE + "test_who_fell_silent_is_passed_over_without_a_slot",
    ),
    Break(
        "P4 nobody is ever taken for silent",
        "core/queueing.py",
        "min(max(0, self._step(silent_until_ms) + 1), 0xFFFFFFFF)",
        "0xFFFFFFFF",
        CROWDS + "test_no_slot_stands_idle_before_somebody_present[ninety-ghosts-line-7]",
    ),
    Break(
        "P4 a turn that is not taken never ends",
        "core/queueing.py",
        "if end_ms < clock_ms]:\n            self._miss(number)",
        "if end_ms < 0]:\n            self._miss(number)",
        LINE + "test_an_offer_lasts_claim_within",
    ),
    Break(
        "P5 who misses the call loses the place",
        "core/queueing.py",
        "    def _miss(self, number: int) -> None:\n        self._set(number, SILENT)",
        "    def _miss(self, number: int) -> None:\n        self._set(number, GONE)",
        CROWDS + "test_no_place_and_no_pass_is_lost[late-line-7]",
    ),
    Break(
        "P5 an old ticket is nothing after a restart",
        "core/queueing.py",
        "return now_ms < self._lost_ms + int(kept_s * 1000)",
        "return now_ms < self._lost_ms",
        KILLED + "[line-30-7]",
    ),
    Break(
        "P8 the first error ends a room's ticks",
        "ticker.py",
        "        except Exception:\n            logger",
        "        except KeyError:\n            logger",
        "tests/test_ticker.py::test_a_room_that_failed_goes_on_with_what_it_noted",
    ),
    Break(
        "P8 what a failed tick took is lost",
        "ticker.py",
        "room.put_back(noted)",
        "pass",
        "tests/test_ticker.py::test_what_was_noted_outlives_a_failed_tick",
    ),
    Break(
        "P9 a poll counts through the whole line",
        "core/queueing.py",
        "return before + counted + offset",
        "return sum(c.count(WAITING, 0, CHUNK) for k, c in self.chunks.items() if k < number >> SHIFT) + counted",
        CROWDS + "test_a_poll_costs_the_same_behind_a_hundred_thousand",
    ),
    Break(
        "P10 a comeback counts for everyone",
        "core/queueing.py",
        "bisect_left(self.late, number)",
        "len(self.late)",
        CROWDS + "test_nobody_is_shown_more_people_ahead_than_before[late-line-7]",
    ),
    Break(
        "P14 the fast lane keeps another of two places",
        "web/lane.py",
        " or value.count(self._name) != 1",
        "",
        "tests/web/test_lane.py::test_however_it_is_spelled_the_answer_is_the_ordinary_one[192.0.2.1-me]",
    ),
    Break(
        "P14 a key is not remembered",
        "core/queueing.py",
        "self._repeat(request, now_ms) or self._join(request, now_ms)",
        "self._join(request, now_ms)",
        CROWDS + "test_repeats_are_harmless[repeats-line-7]",
    ),
    Break(
        "P14 a second claim finds nothing",
        "core/queueing.py",
        "        if standing == INSIDE:\n            return self._claimed",
        "        if standing == NONE:\n            return self._claimed",
        CROWDS + "test_repeats_are_harmless[repeats-line-7]",
    ),
    Break(
        "P6 a signature has four spellings",
        "core/tokens.py",
        "hmac.compare_digest(signer.get_signature(stated), signature.encode())",
        "signer.verify_signature(stated, signature)",
        "tests/core/test_tokens.py::test_a_signature_has_one_spelling",
    ),
    Break(
        "P6 one look tells upper case from lower",
        "core/routing.py",
        "not path.lower().startswith(self._looked_at)",
        "not path.startswith(self._looked_at)",
        "tests/core/test_routing.py::test_every_spelling_of_a_protected_path_is_the_rooms",
    ),
    Break(
        "P6 tickets and passes are signed alike",
        "core/tokens.py",
        'salt=f"waitroom.{kind}.{_VERSION}"',
        'salt=f"waitroom.{_VERSION}"',
        "tests/core/test_tokens.py::test_each_kind_is_signed_with_a_key_of_its_own",
    ),
    Break(
        "P6 a question before a call reaches the shop",
        "core/gate.py",
        "        if view.state is RoomState.OPEN:\n            return Forward",
        "        if view.state is RoomState.OPEN or shown.preflight:\n            return Forward",
        "tests/core/test_gate.py::test_a_preflight_reaches_the_shop_in_standby_only",
    ),
    Break(
        "a form that another site sent is the shop's own when it is sent again",
        "web/desk.py",
        "request = request if first is None else replace(request, headers=first)",
        "pass",
        "tests/test_sent_again.py::test_with_a_pass_the_form_arrives_as_it_was",
    ),
    Break(
        "P1 whoever asks leads",
        "core/queueing.py",
        "            if now_ms < self.leads_until_ms:\n                return 0\n",
        "",
        LINE + "test_one_leads_at_a_time_and_terms_only_grow",
    ),
    Break(
        "P1 who slept through the lease goes on as if leading",
        "store/book.py",
        "not term or lead.term not in (0, term) or",
        "not term or",
        STORE + "test_a_worker_whose_lease_ran_out_leads_anew_before_it_calls[memory]",
    ),
    Break(
        "P1 a leader calls from where serving was",
        "store/book.py",
        " or lead.serving != line.serving",
        "",
        STORE + "test_a_call_from_another_serving_than_the_records_is_refused[memory]",
    ),
    Break(
        "P3 a turn in an older copy still lets in",
        "core/queueing.py",
        "for number in [*self._turns, *(",
        "for number in [*(",
        LINE + "test_a_record_that_lost_something_trusts_no_turn",
    ),
    Break(
        "P3 a hold does not move the end of what may be out",
        "core/queueing.py",
        "        self.assumed_until_ms += still_ms",
        "        self.assumed_until_ms += 0",
        LINE + "test_what_may_be_out_after_a_loss_is_out_for_longer_by_what_the_clock_stood[False]",
    ),
    Break(
        "P3 the last second is forgotten with the process",
        "core/inlet.py",
        "self._recent.extend([(bucket + 1) * BUCKET_MS] * count)",
        "pass",
        LASTING + "test_the_second_is_kept_on_the_safe_side",
    ),
    Break(
        "P3 a freed slot stays in the record",
        "core/lasting.py",
        "            found.freed.append(number)",
        "            pass",
        LASTING + "test_pieces_kept_at_different_moments_agree",
    ),
    Break(
        "P5 a hold eats up turns",
        "core/queueing.py",
        "self._turns = {number: end_ms + still_ms for",
        "self._turns = {number: end_ms for",
        LINE + "test_a_held_room_moves_every_end_by_what_it_stood",
    ),
    Break(
        "P5 a pass does not say what the clock had stood",
        "core/tokens.py",
        "            entry_pass.stood_ms,",
        "            0,",
        "tests/core/test_tokens.py::test_what_was_signed_is_what_is_read",
    ),
    Break(
        "P10 whoever came back counts for everyone after a restart",
        "core/lasting.py",
        "line._late[number] = line.issued",
        "line._late[number] = 0",
        LASTING + "test_ahead_never_rises_by_a_restore",
    ),
    Break(
        "a stop closes who is between two requests",
        "web/hall.py",
        "ONE_MORE_S = 3.0",
        "ONE_MORE_S = 0.0",
        RELOAD + "test_ten_reloads_fail_no_request",
    ),
    Break(
        "a stop does not say that the connection closes",
        "web/wire.py",
        "return self.keep and not self.hall.draining",
        "return self.keep",
        RELOAD + "test_what_is_in_flight_is_finished[a stop]",
    ),
    Break(
        "a reload ends the old workers before the new ones are ready",
        "supervisor.py",
        "failed = await self._first_not_ready(fresh) or",
        "failed = None or",
        SUPERVISOR + "test_a_reload_replaces_every_worker_and_no_keeper",
    ),
    Break(
        "a stopped worker outlives the supervisor",
        "tether.py",
        "prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)",
        "prctl(_PR_SET_PDEATHSIG, 0)",
        SUPERVISOR + "test_a_killed_supervisor_leaves_nobody_behind",
    ),
    Break(
        "a Close frame comes into the middle of another",
        "web/websocket.py",
        '        if self._left or self._head:\n            self._state = _ENDING\n            return b""\n',
        "",
        "tests/web/test_websocket.py::test_a_half_sent_frame_waits_for_its_other_half",
    ),
    Break(
        "P6 an event calls before its start",
        "core/queueing.py",
        "if now_ms < self.rolls_until_ms or self._gathers:",
        "if now_ms < self.rolls_until_ms:",
        EVENTS + "test_the_line_opens_on_time_and_nobody_is_called_before[calm]",
    ),
    Break(
        "P12 somebody is called while places are dealt",
        "core/queueing.py",
        "return self.to_deal or (self.opening",
        "return (self.opening",
        "tests/core/test_draw.py::test_nobody_is_called_or_let_in_until_all_places_are_dealt",
    ),
    Break(
        "P12 who joins after the start is drawn among those before",
        "core/queueing.py",
        "if self.draw is not None and not self.draw.closed:",
        "if self.draw is not None:",
        "tests/core/test_draw.py::test_nobody_is_called_or_let_in_until_all_places_are_dealt",
    ),
    Break(
        "P12 another seed is drawn with than was committed to",
        "store/book.py",
        "seed = line.seeds.pop(event.name, None)",
        "seed = line.seeds.pop(event.name, None) and None",
        "tests/test_draws.py::test_the_commitment_is_shown_before_anybody_gathers_and_kept_to",
    ),
    Break(
        "P12 the seed is shown while people gather",
        "core/draw.py",
        'seed = self.seed.hex() if self.closed else ""',
        "seed = self.seed.hex()",
        "tests/test_draws.py::test_the_secret_seed_is_in_nothing_that_leaves_the_keeper_before_the_start",
    ),
    Break(
        "P12 a lost record draws without those of before",
        "store/book.py",
        "line.draw = draw.JoinList.restore(noted.draw, None) if noted.draw else None",
        "line.draw = None",
        "tests/test_draws.py::test_the_note_is_enough_to_commit_and_to_draw_again",
    ),
    Break(
        "P1 the invited take more than their share",
        "core/queueing.py",
        "if self.invited_credit >= WHOLE and",
        "if",
        "tests/core/test_invited.py::test_the_invited_get_their_share_of_the_calls_and_no_more[0.2]",
    ),
    Break(
        "P2 an invite is good twice",
        "core/queueing.py",
        "return joined if unheard or joined.number == request.number else spent",
        "return joined",
        STORE + "test_an_invite_is_used_once_over_any_crash[memory]",
    ),
    Break(
        "P4 a line without an order calls who is silent",
        "core/queueing.py",
        "            if self._is_silent(number, now_ms):\n                # Drawn",
        "            if False:\n                # Drawn",
        "tests/core/test_random.py::test_the_silent_are_found_out_when_they_are_drawn",
    ),
    Break(
        "P10 people ahead are told before the draw",
        "service.py",
        "if joined.ahead is None or self.unordered:",
        "if joined.ahead is None:",
        "tests/test_draws.py::test_pages_are_told_nothing_by_a_view_that_is_behind",
    ),
    Break(
        "P5 a lost record begins its event anew",
        "store/book.py",
        "opening = schedule.begin(event, readings, now_ms) if event else None",
        "opening = None",
        EVENTS + "test_a_wiped_record_keeps_the_event_and_its_generation",
    ),
    Break(
        "P6 a proxy that is not listed lets everybody around",
        "core/headers.py",
        "return Client(address, certain=not for_another)",
        "return Client(address, certain=True)",
        "tests/core/test_asker.py::test_an_unlisted_proxy_lets_nobody_around[X-Real-IP: 203.0.113.9]",
    ),
    Break(
        "P5 a cookie's name stays where its attributes change",
        "web/cookies.py",
        'prefix = "" if not secure else HOST_ONLY if domain is None else SECURE',
        'prefix = ""',
        "tests/web/test_cookies.py::test_what_was_given_comes_back",
    ),
    Break(
        "P6 what goes around is counted again when a tick is said again",
        "store/book.py",
        "since = max(told, known.get(why, 0))",
        "since = told",
        "tests/test_ledger_stores.py::test_what_goes_around_is_counted_and_told_every_ten_seconds[sqlite]",
    ),
    Break(
        "P13 the ledger is told of somebody before the record has kept it",
        "store/book.py",
        "        if not self._watched:\n            self.note_kept(now_ms)",
        "        self.note_kept(now_ms)",
        "tests/test_ledger_stores.py::test_nothing_is_told_that_was_not_kept",
    ),
    Break(
        "P15 a line of the ledger that was altered passes for right",
        "ledger/judging.py",
        "if self._keys is not None and not read.fits(self._keys):",
        "if self._keys is None:",
        "tests/test_ledger.py::test_no_change_of_a_file_goes_unseen[altered]",
    ),
]


def run(copy, *tests):
    """Run ``tests`` against the ``waitroom`` in ``copy``; return the exit code and what was said."""
    # The current folder comes first on the path of ``-m``: it decides which waitroom is tested. The plugins that these
    # tests can do without would take longer to load than the tests to run.
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-c", str(ROOT / "pyproject.toml")]
    command += ["-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"]
    ended = subprocess.run(
        [*command, *(str(ROOT / test) for test in tests)],
        cwd=copy,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
def copy(tmp_path):
    """Return a folder with a copy of the package, and the pages beside it."""
    shutil.copytree(ROOT / "waitroom", tmp_path / "waitroom")
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    return tmp_path


def test_copying_alone_breaks_nothing(copy):
    """The same run on an unchanged copy is green; otherwise a red one below would prove nothing."""
    code, said = run(copy, BREAKS[0].seen_by, BREAKS[-1].seen_by, SUPERVISOR + "test_one_worker_is_no_special_case")
    assert code == pytest.ExitCode.OK, said


@pytest.mark.parametrize("broken", BREAKS, ids=lambda one: one.what.replace(" ", "-"))
def test_a_broken_promise_is_seen(copy, broken):
    """One place is changed, and the test that guards the promise fails: not an import, not a collection."""
    path = copy / "waitroom" / broken.file
    source = path.read_text()
    assert source.count(broken.before) == 1, "this break no longer fits the source"
    path.write_text(source.replace(broken.before, broken.after))
    code, said = run(copy, broken.seen_by)
    assert code == pytest.ExitCode.TESTS_FAILED, said
    assert "1 failed" in said
