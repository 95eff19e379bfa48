"""stub"""

PROPERTY = "conformance"


class Outcomes: ...
