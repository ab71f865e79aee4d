"""The ledger's rows and the engines that hold them."""
