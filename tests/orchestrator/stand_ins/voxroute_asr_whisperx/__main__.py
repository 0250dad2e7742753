from tests.orchestrator.stand_in import main

main("asr")
