"""What a trained network is asked: activity, ablation, responses, and its layers one by one."""
