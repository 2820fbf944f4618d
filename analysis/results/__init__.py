"""Test results: classification measures, confusions, ROC curves and calibration, with intervals and tests."""
