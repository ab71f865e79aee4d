"""Message text: GSM 03.38 and UCS-2, counted and cut into parts."""
