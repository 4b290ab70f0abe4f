"""Fails unless every stage of a tiny run beats its baseline, and more RVQ levels sound better than one."""

import json
import sys
from pathlib import Path

# stage -> the validation figure that must be better than its baseline: below it, but for an accuracy
JUDGED = {
    "soundstream": "rms",  # of magnitudes, over the original's: silence scores 1
    "w2vbert": "contrastive_accuracy",
    "semantic": "loss",
    "storm": "loss",
    "coarse": "level_0",  # the levels above are so close to noise that sixteen clips teach little of them
}
# judged on the last training batches: two held-out pieces tell nothing of retrieval, and what a good quantizer leaves
# for the fine stage is so close to noise that a dozen clips teach it nothing about others
TRAINED = {"mulan": "contrastive", "fine": "loss"}


def main(runs: Path) -> int:
    failed = 0
    for stage in ("soundstream", "w2vbert", "mulan", "semantic", "storm", "coarse", "fine"):
        info = json.loads((runs / stage / "artifact" / "config.json").read_text())["info"]
        metrics = info["metrics"]
        if stage in TRAINED:
            name = TRAINED[stage]
            lines = [json.loads(line) for line in (runs / stage / "log.jsonl").read_text().splitlines()]
            value = [line for line in lines if line["kind"] == "train"][-1][name]
        else:
            name = JUDGED[stage]
            value = metrics[name]
        baseline = info["baseline"][name]
        good = value > baseline if name.endswith("accuracy") else value < baseline
        print(f"{stage:12} {name:22} {value:8.4f}  baseline {baseline:8.4f}  {'ok' if good else 'NOT BEATEN'}")
        failed += not good
        if stage == "soundstream":
            better = metrics["rms"] < 0.95 * metrics["rms_first"]
            print(
                f"{'':12} {'rms, every code':22} {metrics['rms']:8.4f}  1st level {metrics['rms_first']:7.4f}  "
                f"{'ok' if better else 'NO BETTER'}"
            )
            failed += not better
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
