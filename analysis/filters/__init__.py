"""The filters: which are alive, what each contributes (ablation), and what it responds to."""
