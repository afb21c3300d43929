// What surrounds a position of a job text, so that an error there can name field, message and the nearest right name.
#pragma once

#include <string>

namespace google::protobuf {
class Descriptor;
class EnumDescriptor;
class FieldDescriptor;
}  // namespace google::protobuf

#include <vector>

namespace sheaf::cli {

struct TextError {
  int line = -1;  // 0-based; -1: nowhere in particular
  int column = -1;
  std::string message;
};
// Protobuf's complaint in our words, and at the name it is about rather than at what follows.
TextError ImproveTextError(const std::string& text, const TextError& error);

// Descriptor names for messages to people: "TrainSpec", field and enum value names.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);
std::vector<std::string> ValueNames(const google::protobuf::EnumDescriptor& values);
// "a whole number from 0 to 4294967295", "true or false", "one of: BSP, SSP, ASP".
std::string ExpectedValue(const google::protobuf::FieldDescriptor& field);

}  // namespace sheaf::cli
