// A one-dimensional list of workgroups, folded over x, y and z where it is longer than one dimension may be.
// Takes the counts as parameters: a dispatch may be cut into slices, so gl_NumWorkGroups is not the whole.
uint group_index(uint groups_x, uint groups_y) {
  return (gl_WorkGroupID.z * groups_y + gl_WorkGroupID.y) * groups_x + gl_WorkGroupID.x;
}
