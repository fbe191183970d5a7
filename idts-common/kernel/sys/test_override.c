// SPDX-License-Identifier: GPL-2.0
/*
 * For the tests alone: parameters that override what a module is capable of, as
 * another build of it would be, and that delay it at a named place of the code, so
 * that a race is won or lost each time. Kbuild.common leaves this file out of a
 * real module.
 */
#include <linux/delay.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

/*
 * Lowest version, highest version, features; 1 if no physically contiguous pages
 * are to be found.
 */
static unsigned int trial[4];
static unsigned int given;
module_param_array(trial, uint, &given, 0444);

unsigned int idts_trial(unsigned int which, unsigned int real);

unsigned int idts_trial(unsigned int which, unsigned int real)
{
	return which < given ? trial[which] : real;
}

/* The place, and for how long; changeable at any time. */
static char delay[32];
module_param_string(delay, delay, sizeof(delay), 0644);
static unsigned int delay_ms;
module_param(delay_ms, uint, 0644);

void idts_delay(const char *place);

/* Sleeps at the place, each time. */
void idts_delay(const char *place)
{
	if (delay_ms && !strcmp(strim(delay), place))
		msleep(delay_ms);
}

void idts_spin(const char *place);

/* Spins at the place, once. The test sees to it that the right task comes by first. */
void idts_spin(const char *place)
{
	unsigned int ms = READ_ONCE(delay_ms);

	if (ms && !strcmp(strim(delay), place) && cmpxchg(&delay_ms, ms, 0) == ms)
		mdelay(ms);
}
