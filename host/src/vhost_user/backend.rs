// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's [`Device`] as the `vhost` crate wants it: one method for each vhost-user request.
//!
//! What was not offered as a protocol feature is refused. An error closes the connection to the client; its text goes to the log.

use std::fs::File;
use std::io;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::RingServer;
use super::device::{Device, OFFERED, VringAddresses};
use super::memory_table::{MemoryTable, Region};

/// The device has one queue.
const QUEUES: u64 = 1;

/// The text of `error`, for the connection's end.
fn handler_error(error: impl Into<anyhow::Error>) -> Error {
    Error::ReqHandlerError(io::Error::other(format!("{:#}", error.into())))
}

/// Only queue 0 exists.
fn check_queue(index: u32) -> Result<()> {
    if u64::from(index) < QUEUES { Ok(()) } else { Err(Error::InvalidParam) }
}

fn not_offered<T>(what: &'static str) -> Result<T> {
    Err(Error::InvalidOperation(what))
}

impl<S: RingServer> VhostUserBackendReqHandlerMut for Device<S> {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset().map_err(handler_error)
    }

    fn reset_device(&mut self) -> Result<()> {
        not_offered("RESET_DEVICE was not offered")
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(OFFERED)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        Device::set_features(self, features).map_err(handler_error)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let regions = regions
            .iter()
            .map(|region| Region {
                guest: region.guest_phys_addr,
                length: region.memory_size,
                user: region.user_addr,
                offset: region.mmap_offset,
            })
            .collect();
        let memory = MemoryTable::new(regions, files).map_err(handler_error)?;
        self.set_memory(memory).map_err(handler_error)?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        check_queue(index)?;
        self.set_size(num).map_err(handler_error)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        check_queue(index)?;
        let addresses = VringAddresses { desc: descriptor, avail: available, used };
        self.set_addresses(addresses).map_err(handler_error)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        check_queue(index)?;
        self.set_base(base).map_err(handler_error)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        check_queue(index)?;
        let base = self.stop_ring().map_err(handler_error)?;
        Ok(VhostUserVringState::new(index, base))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        check_queue(index.into())?;
        self.set_kick(file).map_err(handler_error)
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        check_queue(index.into())?;
        self.set_call(file).map_err(handler_error)
    }

    fn set_vring_err(&mut self, index: u8, _file: Option<File>) -> Result<()> {
        check_queue(index.into())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::MQ)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        check_queue(index)?;
        self.set_enabled(enable).map_err(handler_error)
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let config = self.config();
        let (start, length) = (offset as usize, size as usize);
        let range = start.checked_add(length).and_then(|end| config.get(start..end));
        match range {
            Some(bytes) => Ok(bytes.to_vec()),
            None => {
                let have = config.len();
                log::warn!(
                    "a client reads {length} bytes at {start} of a configuration space of {have}: give its device config_size={have}"
                );
                Err(Error::InvalidParam)
            }
        }
    }

    fn set_config(&mut self, _offset: u32, _buf: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        not_offered("the configuration space is read-only")
    }

    fn set_gpu_socket(&mut self, _gpu_backend: GpuBackend) -> Result<()> {
        not_offered("there is no GPU")
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        not_offered("SHARED_OBJECT was not offered")
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_offered("INFLIGHT_SHMFD was not offered")
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        not_offered("INFLIGHT_SHMFD was not offered")
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_offered("CONFIGURE_MEM_SLOTS was not offered")
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        not_offered("CONFIGURE_MEM_SLOTS was not offered")
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        not_offered("CONFIGURE_MEM_SLOTS was not offered")
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        not_offered("DEVICE_STATE was not offered")
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered("DEVICE_STATE was not offered")
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered("SHMEM was not offered")
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        not_offered("LOG_SHMFD was not offered")
    }
}
