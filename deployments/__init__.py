"""What hands the flows to Prefect, and the programs that need both sides: the command line, the pages."""
