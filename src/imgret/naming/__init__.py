"""The name of the thing in a picture: a vote of its neighbours, with a calibrated confidence."""

from imgret.naming.calibration import Calibration, calibration_error
from imgret.naming.namer import Name, Namer

__all__ = ["Calibration", "Name", "Namer", "calibration_error"]
