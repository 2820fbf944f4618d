"""Measurements on a trained network: filter activity, ablation, responses, and its layers one by one."""
