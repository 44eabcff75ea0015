use super::Volume; use super::error::Error; use crate::mem::region::Region; use crate::fs::*;
impl<R: Region> Volume<R> {
 pub(super) fn inherit_acl(&mut self,_d:u32,_n:u32,mode:u16,_c:Caller)->Result<u16,Error>{Ok(mode)}
 pub(super) fn write_attribute(&mut self,_n:u32,_name:&[u8],_v:Option<&[u8]>,_e:AttributeExistence,_c:Caller)->Result<(),Error>{Ok(())}
 pub(super) fn free_attributes(&mut self,_n:u32)->Result<(),Error>{Ok(())}
 pub(super) fn change_acl_mode(&mut self,_n:u32,_m:u16)->Result<(),Error>{Ok(())}
 pub(super) fn flush_volume(&mut self)->Result<(),Error>{self.commit_transaction()}
 pub(super) fn has_unflushed(&self)->bool{true}
}
