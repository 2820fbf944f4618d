"""The filters: which are alive, what each is for, and what it responds to."""
