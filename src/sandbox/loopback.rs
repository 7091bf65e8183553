//! Brings the loopback device of a new network namespace up, by a message to the kernel's routing.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::WallError;

/// `RTM_NEWLINK`: change a device.
const CHANGE_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_WITH_ANSWER: u16 = 0x1 | 0x4;
/// `NLMSG_ERROR`, which is also the answer to a request that succeeded.
const ANSWER: u16 = 2;
/// `IFF_UP`.
const UP: u32 = 1;
/// The loopback device is the first of every namespace.
const LOOPBACK: i32 = 1;

/// Brings the device up.
pub(super) fn bring_up() -> Result<(), WallError> {
    let asked = ask().and_then(|error| match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    });
    asked.map_err(WallError::step("bring the loopback device up"))
}

/// Sends the request and returns the error number of the answer, 0 or negative.
fn ask() -> io::Result<i32> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    // struct nlmsghdr (length, type, flags, sequence, port), then struct ifinfomsg (family, pad,
    // type, index, flags, change).
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(CHANGE_LINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([0, 0]);
    message.extend(0_u16.to_ne_bytes());
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 256];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(ANSWER), Some(error)) if length >= 20 => Ok(error),
        _ => Err(io::Error::other("the kernel gave no answer")),
    }
}
