// SPDX-License-Identifier: GPL-2.0

//! What only a module for the tests does: see test_override.c.

/// What this build can, `real`, or, in a module for the tests, what another one
/// could.
#[cfg(not(idts_trial))]
pub(crate) fn built(_which: u32, real: u32) -> u32 {
    real
}

#[cfg(idts_trial)]
pub(crate) fn built(which: u32, real: u32) -> u32 {
    unsafe extern "C" {
        safe fn idts_trial(which: u32, real: u32) -> u32;
    }
    idts_trial(which, real)
}

/// A place of the code at which the tests can have a module stand still, by the
/// parameters `delay` and `delay_ms`. Where it may sleep.
#[cfg(not(idts_trial))]
#[inline(always)]
pub(crate) fn delay(_place: &core::ffi::CStr) {}

#[cfg(idts_trial)]
pub(crate) fn delay(place: &core::ffi::CStr) {
    unsafe extern "C" {
        fn idts_delay(place: *const core::ffi::c_char);
    }
    // SAFETY: A C string; it may sleep here.
    unsafe { idts_delay(place.as_ptr()) };
}

/// The same where it may not sleep, such as in an event handler, and once only.
#[cfg(not(idts_trial))]
#[inline(always)]
pub(crate) fn spin(_place: &core::ffi::CStr) {}

#[cfg(idts_trial)]
pub(crate) fn spin(place: &core::ffi::CStr) {
    unsafe extern "C" {
        fn idts_spin(place: *const core::ffi::c_char);
    }
    // SAFETY: A C string.
    unsafe { idts_spin(place.as_ptr()) };
}
