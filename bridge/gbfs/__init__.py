"""What everybody is given: free cars by GBFS 3.0 (docs/adr/0019)."""
