"""What a run leaves behind: its folder, the ledger, the summary."""
