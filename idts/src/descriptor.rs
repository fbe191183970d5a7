// SPDX-License-Identifier: MIT OR Apache-2.0
//! The descriptor of each of the four types, as the standard library's types give theirs: lent,
//! as a number, taken out, and (but for channels and listeners, which ask the driver more) put in.

/// Implements the traits for a type by those of its field, or, without one, by `AsFd` and by
/// `From` for `OwnedFd`.
macro_rules! descriptor {
    ($type:ident, $field:ident) => {
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.$field.as_fd()
            }
        }

        /// The descriptor blocks, unless it was made not to; limits on waiting are gone.
        impl From<$type> for std::os::fd::OwnedFd {
            fn from(from: $type) -> Self {
                from.$field.into()
            }
        }

        descriptor!($type);
    };
    ($type:ident) => {
        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsFd::as_fd(self).as_raw_fd()
            }
        }

        impl std::os::fd::IntoRawFd for $type {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::OwnedFd::from(self).into_raw_fd()
            }
        }
    };
}

pub(crate) use descriptor;
