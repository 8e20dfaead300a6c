"""``python -m meta_sync`` is the ``meta-sync`` command."""

from meta_sync.cli.main import main

if __name__ == "__main__":
    main()
