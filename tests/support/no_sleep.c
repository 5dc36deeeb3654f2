/*
 * Preloaded into tools: sleep(3) returns at once.
 *
 * A tool that asks again and again whether a scrub has ended sleeps in between.  Where the clock of a machine counts
 * steps, no time passes there meanwhile.
 */
unsigned int sleep(unsigned int seconds)
{
	(void)seconds;
	return 0;
}
