"""The filter, run by a machine for classic BPF: which calls it lets through, on both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from posttrain.sandbox.seccomp import FORBIDDEN, MISSING, seccomp_filter
from posttrain.types import UserError

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}
ALLOWED, KILLED = "allowed", "killed"
CLONE, IOCTL, SOCKET = {"x86_64": 56, "aarch64": 220}, {"x86_64": 16, "aarch64": 29}, {"x86_64": 41, "aarch64": 198}


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> str | int:
    """What the filter says to a call: allowed, killed, or an error."""
    data = struct.pack("=IIQ6Q", number, architecture or ARCHITECTURE[machine], 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    program = list(struct.iter_unpack("=HBBI", seccomp_filter(machine)))
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            loaded = struct.unpack_from("=I", data, operand)[0]
        elif code == 0x06:
            return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}.get(operand, operand & 0xFFFF)
        else:
            holds = {0x15: loaded == operand, 0x35: loaded >= operand, 0x45: bool(loaded & operand)}[code]
            at += if_true if holds else if_false


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def test_calls_that_every_program_makes_are_allowed(machine: str):
    ordinary = {"x86_64": (0, 1, 9, 12, 57, 59, 60, 202, 257, 318), "aarch64": (63, 64, 222, 214, 221, 93, 98, 56, 278)}
    assert {answer(machine, number) for number in ordinary[machine]} == {ALLOWED}


@pytest.mark.parametrize(("calls", "error"), [(FORBIDDEN, errno.EPERM), (MISSING, errno.ENOSYS)], ids=["forbidden", "missing"])
def test_calls_in_the_tables_get_their_error(machine: str, calls: dict, error: int):
    numbers = [pair[COLUMN[machine]] for pair in calls.values()]
    assert {answer(machine, number) for number in numbers if number is not None} == {error}


def test_everything_else_is_allowed_and_no_number_is_in_two_tables(machine: str):
    numbers = [pair[COLUMN[machine]] for pair in (*FORBIDDEN.values(), *MISSING.values()) if pair[COLUMN[machine]] is not None]
    assert len(set(numbers)) == len(numbers)
    checked = {CLONE[machine], IOCTL[machine], SOCKET[machine], SOCKET[machine] + (12 if machine == "x86_64" else 1)}
    others = set(range(450)) - set(numbers) - checked
    assert {answer(machine, number) for number in others} == {ALLOWED}


def test_a_call_of_another_architecture_kills(machine: str):
    assert answer(machine, 1, architecture=0x40000003) == KILLED


def test_x32_kills():
    assert answer("x86_64", 0x40000001) == KILLED


@pytest.mark.parametrize("flag", [0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_a_clone_that_makes_a_namespace_is_refused_and_a_fork_or_a_thread_is_not(machine: str, flag: int):
    assert answer(machine, CLONE[machine], flag | 17) == errno.EPERM
    assert answer(machine, CLONE[machine], 17) == ALLOWED
    assert answer(machine, CLONE[machine], 0x3D0F00) == ALLOWED


def test_typing_into_a_terminal_is_refused_and_asking_about_it_is_not(machine: str):
    assert [answer(machine, IOCTL[machine], 0, request) for request in (0x5412, 0x541C, 0x5401)] == [errno.EPERM, errno.EPERM, ALLOWED]


@pytest.mark.parametrize(("family", "verdict"), [(1, ALLOWED), (2, ALLOWED), (10, ALLOWED), (16, 97), (17, 97), (38, 97), (40, 97), (0, 97)])
def test_sockets_are_local_or_of_the_internet(machine: str, family: int, verdict: str | int):
    assert answer(machine, SOCKET[machine], family, 1) == verdict


def test_a_machine_without_a_table_is_refused():
    with pytest.raises(UserError, match="no seccomp filter for riscv64: it runs on x86_64 and aarch64"):
        seccomp_filter("riscv64")
