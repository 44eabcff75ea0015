use super::Volume; use super::error::Error; use crate::mem::region::Region; 
impl<R: Region> Volume<R> {
 pub(super) fn change_acl_mode(&mut self,_n:u32,_m:u16)->Result<(),Error>{Ok(())}
 pub(super) fn has_unflushed(&self)->bool{true}
}
