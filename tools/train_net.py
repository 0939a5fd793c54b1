"""Train or evaluate a crack model: one config file, and KEY VALUE pairs that override it."""

from __future__ import annotations

from detectron2.engine import default_argument_parser, launch

from crack_data.errors import run_tool
from crack_data.training.run import run


def main() -> None:
    """Parse the command line and run in as many processes as it says."""
    args = default_argument_parser().parse_args()
    launch(
        run,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


if __name__ == "__main__":
    run_tool(main)
