from voxroute_orchestrator.cli.main import main

if __name__ == "__main__":
    main()
