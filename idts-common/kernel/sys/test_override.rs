// SPDX-License-Identifier: GPL-2.0

//! Overrides and delays for the tests, see test_override.c: a module that was not built for them
//! (`cfg(idts_trial)`) has none.

/// Returns `real`, what this build is capable of, unless the tests' parameter `trial` overrides
/// entry `_which`.
#[cfg(not(idts_trial))]
pub(crate) fn built(_which: u32, real: u32) -> u32 {
    real
}

/// As above, in a module for the tests.
#[cfg(idts_trial)]
pub(crate) fn built(which: u32, real: u32) -> u32 {
    unsafe extern "C" {
        safe fn idts_trial(which: u32, real: u32) -> u32;
    }
    idts_trial(which, real)
}

/// A named place at which the tests' parameters `delay` and `delay_ms` can have the module sleep.
///
/// The caller may sleep, and holds no lock but those that the test is about.
#[cfg(not(idts_trial))]
#[inline(always)]
pub fn delay(_place: &core::ffi::CStr) {}

/// As above, in a module for the tests.
#[cfg(idts_trial)]
pub fn delay(place: &core::ffi::CStr) {
    unsafe extern "C" {
        fn idts_delay(place: *const core::ffi::c_char);
    }
    // SAFETY: A C string; the caller may sleep.
    unsafe { idts_delay(place.as_ptr()) };
}

/// As [`delay`], by spinning, and only the first time: for places that must not sleep, such as an
/// event handler.
#[cfg(not(idts_trial))]
#[inline(always)]
pub(crate) fn spin(_place: &core::ffi::CStr) {}

/// As above, in a module for the tests.
#[cfg(idts_trial)]
pub(crate) fn spin(place: &core::ffi::CStr) {
    unsafe extern "C" {
        fn idts_spin(place: *const core::ffi::c_char);
    }
    // SAFETY: A C string.
    unsafe { idts_spin(place.as_ptr()) };
}
