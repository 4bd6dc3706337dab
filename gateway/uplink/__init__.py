"""The end of the link that is in the car: what to send first, resend, back-off."""
