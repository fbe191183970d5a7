// SPDX-License-Identifier: GPL-2.0
/*
 * For the tests alone: a module that is told at its loading what another build of
 * it would be able to do. Kbuild.common leaves this file out of a real module.
 */
#include <linux/moduleparam.h>

/* Lowest version, highest version, features. */
static unsigned int trial[3];
static unsigned int given;
module_param_array(trial, uint, &given, 0444);

unsigned int idts_trial(unsigned int which, unsigned int real);

unsigned int idts_trial(unsigned int which, unsigned int real)
{
	return which < given ? trial[which] : real;
}
