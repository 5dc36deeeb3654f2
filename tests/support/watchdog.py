"""The limit after which a test counts as hung."""

#: Seconds after which a process, an event or a whole test is considered hung.  No test may depend on it: it only exists
#: so that a deadlock ends in a failure with stacks instead of a suite that never ends.  A loaded machine must not reach
#: it, so it is far beyond the longest test.
WATCHDOG = 900
