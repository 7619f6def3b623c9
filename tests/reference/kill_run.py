#!/usr/bin/env python3
"""Kills `vecinfer run` at random moments until it has died N times, lets it finish, and compares every file of the
store with those of a run that was left alone. The same as tests/pipeline/cli_test on a tiny model, here on a real one.

    python3 tests/reference/kill_run.py build/release/vecinfer experiments/ci.yaml [--kills 100] [--longest 3.0]
"""
import argparse, hashlib, pathlib, random, signal, subprocess, sys, tempfile, time


def files(store):
    """Everything but the clock's readings and what a finished run may leave (locks, reports with times)."""
    out = {}
    for path in sorted(store.glob("*/*/*")):
        if path.is_file() and path.parts[-3] not in ("profile", "report", "runs") and not path.parts[-2].endswith(".partial"):
            out[str(path.relative_to(store))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vecinfer"); parser.add_argument("experiment")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds a run may live")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        run = lambda store: [args.vecinfer, "run", args.experiment, "--store", str(store)]
        clean, killed = pathlib.Path(folder) / "clean", pathlib.Path(folder) / "killed"
        subprocess.run(run(clean), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kills = 0
        while kills < args.kills:
            child = subprocess.Popen(run(killed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(random.uniform(0.0, args.longest))
            if child.poll() is None:
                child.send_signal(signal.SIGKILL); kills += 1
                child.wait()
            elif child.returncode != 0:
                sys.exit(f"after {kills} kills: exit {child.returncode}: {child.stderr.read().decode()}")
            else:  # whole: begin again, so that the kills go on
                if files(clean) != files(killed):
                    sys.exit(f"after {kills} kills: other bytes")
                killed = pathlib.Path(folder) / f"killed_{kills}"
        subprocess.run(run(killed), check=True, stdout=subprocess.DEVNULL)
        a, b = files(clean), files(killed)
        wrong = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
        print(f"{kills} kills, {len(a)} files, {len(wrong)} differ {wrong[:5]}")
        sys.exit(1 if wrong or not a else 0)


main()
