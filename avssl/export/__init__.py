"""What users take away: assignments as Parquet and CSV, and the page of clusters."""
