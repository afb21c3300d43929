#include "worker/data/row_builder.h"

namespace sheaf {

void KeySet::Grow() {
  moving_.clear();
  for (size_t i = 0; i <= mask_; ++i) {
    if (slots_[i].stamp == stamp_) moving_.push_back(slots_[i]);
  }
  mask_ = mask_ * 2 + 1;
  if (mask_ >= slots_.size()) slots_.resize(mask_ + 1);
  NextStamp();
  count_ = 0;
  for (const Slot& slot : moving_) FindOrInsert(slot.key, slot.position);
}

}  // namespace sheaf
