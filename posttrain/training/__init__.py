"""What every training shares: rounds of scored attempts, and the loop that logs, saves and resumes."""
