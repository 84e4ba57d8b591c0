"""A gallery whose process is killed, whose power fails, or whose disk does, at any moment.

After every step that was reported as done the gallery holds what it should. A step that was under
way is there as a whole, or not at all. And the gallery can be written on.
"""

import errno
import random
import shutil

import pytest
from harness import KINDS, Disk, files_below, records
from script import Script, fault

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*the stored index is unusable")]


def after(script, answer):
    """What the gallery may hold, by what the script reported."""
    done = answer["done"] + 1
    return script.models[done : done + 2]


def logged(runner, folder, seed, **options):
    """Run a script to its end, and return it with what it changed."""
    script, log = Script(seed), folder / "log"
    answer = runner.run(folder / "run", seed=seed, log=str(log), **options)
    assert answer["done"] == len(script.steps) - 1, answer
    return script, records(log)


def power_cuts(runner, folder, seeds, cuts, **options):
    """Yield what is wrong with each disk that a power cut may leave."""
    for seed in seeds:
        folder.mkdir(exist_ok=True)
        script, changes = logged(runner, folder, seed, **options)
        chance = random.Random(seed)
        for cut in chance.sample(range(len(changes)), cuts):
            disk = Disk(folder / "run")
            for change in changes[:cut]:
                disk.play(change)
            kind = chance.choice(KINDS)
            disk.build(folder / "disk", kind, chance)
            done = disk.done + 1
            wrong = fault(folder / "disk", script.models[done : done + 2])
            yield wrong and f"seed {seed}, change {cut} of {len(changes)}, {kind}: {wrong}"
            shutil.rmtree(folder / "disk")
        shutil.rmtree(folder)


def test_killed_at_a_random_time(runner, scratch, times):
    chance, faults = random.Random(1), []
    for number in range(times(25, 500)):
        seed, seconds = number % 20, chance.uniform(0.01, 0.3)
        directory = scratch / str(number)
        answer = runner.run(directory, seed=seed, after=seconds)
        wrong = fault(directory, after(Script(seed), answer))
        faults += [f"seed {seed}, {seconds:.3f} s: {wrong}"] if wrong else []
        shutil.rmtree(directory)
    assert not faults, faults


def test_killed_before_a_change(runner, scratch, times):
    """Before any of the calls that change a file: in the long form, before each of them."""
    chance, faults = random.Random(2), []
    for seed in range(times(3, 4)):
        calls = runner.run(scratch / "whole", seed=seed)["calls"]
        shutil.rmtree(scratch / "whole")
        numbers = range(1, calls + 1)
        for call in chance.sample(numbers, times(10, calls)):
            directory = scratch / f"{seed}-{call}"
            answer = runner.run(directory, seed=seed, kill=call)
            assert answer["killed"]
            wrong = fault(directory, after(Script(seed), answer))
            faults += [f"seed {seed}, call {call} of {calls}: {wrong}"] if wrong else []
            shutil.rmtree(directory)
    assert not faults, faults


def test_power_fails(runner, scratch, times):
    cuts = power_cuts(runner, scratch / "cut", range(times(3, 25)), times(25, 40))
    assert not [wrong for wrong in cuts if wrong]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_the_disk_fails(runner, scratch, times, number):
    """A call fails: a clear error, and the gallery holds what it held, or what it should."""
    chance, faults = random.Random(number), []
    for seed in range(2):
        calls = runner.run(scratch / "whole", seed=seed)["calls"]
        shutil.rmtree(scratch / "whole")
        for call in chance.sample(range(1, calls + 1), times(12, calls)):
            directory = scratch / f"{seed}-{call}"
            answer = runner.run(directory, seed=seed, fail=call, errno=number)
            assert not answer["killed"]
            wrong = fault(directory, after(Script(seed), answer))
            if answer.get("error", "").startswith("raw"):
                wrong = answer["error"]
            faults += [f"seed {seed}, call {call} of {calls}: {wrong}"] if wrong else []
            shutil.rmtree(directory)
    assert not faults, faults


# -- the harness itself ----------------------------------------------------------------------------


def test_what_is_recorded_is_what_is_there(runner, scratch):
    script, changes = logged(runner, scratch, 1)
    disk = Disk(scratch / "run")
    for change in changes:
        disk.play(change)
    disk.build(scratch / "whole", "whole", random.Random(0))
    assert dict(files_below(scratch / "whole")) == dict(files_below(scratch / "run"))
    assert fault(scratch / "whole", [script.models[-1]]) is None
    assert "holds" in fault(scratch / "whole", [script.models[1]])


@pytest.mark.parametrize("forgotten", ["vectors", "catalog", "manifest"])
def test_a_sync_that_is_left_out_is_noticed(runner, scratch, forgotten):
    cuts = power_cuts(runner, scratch / "cut", range(20), 40, unsynced=forgotten)
    assert next(wrong for wrong in cuts if wrong)
